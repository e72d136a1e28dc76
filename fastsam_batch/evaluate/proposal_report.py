"""The proposals experiment as a table and a plot, beside published figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastsam_batch.evaluate.report import images_said, markdown_table, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# FastSAM (Zhao et al. 2023): object proposals on COCO 2017 validation, all categories as one.
PUBLISHED: dict[str, dict[str, float]] = {
    "SAM-H E32 on COCO (published)": {"AR@10": 0.185, "AR@100": 0.495, "AR@1000": 0.625, "AUC": 0.337},
    "FastSAM on COCO (published)": {"AR@10": 0.157, "AR@100": 0.473, "AR@1000": 0.637, "AUC": 0.322},
}
_COLUMNS = ("AR@10", "AR@100", "AR@1000", "AUC", "AP", "AP50", "AP75")
_SIZES = ("small", "medium", "large")


def proposal_table(document: dict[str, Any], name: str) -> str:
    """Markdown tables of `proposal_figures`' figures, overall and by size."""
    rows = {
        f"{kind}, by {ranking}": figures
        for ranking, kinds in document["figures"].items()
        for kind, figures in kinds.items()
    }
    overall = [[row, *(figures.get(column) for column in _COLUMNS)] for row, figures in (rows | PUBLISHED).items()]
    by_size = [f"{figure} {size}" for figure in ("AR@100", "AR@1000", "AP") for size in _SIZES]
    sized = [[row, *(figures.get(head.replace(" ", "_")) for head in by_size)] for row, figures in rows.items()]
    return (
        f"# Proposals\n\n{name}: {images_said(document)}, {document['truths']} objects, classes ignored.\n\n"
        f"{markdown_table(['', *_COLUMNS], overall)}\n"
        f"Small objects have up to 32 x 32 pixels, large ones more than 96 x 96.\n\n"
        f"{markdown_table(['', *by_size], sized)}"
    )


def proposal_plot(document: dict[str, Any], name: str) -> Figure:
    """Average recall against the number of proposals, a line a ranking and kind."""
    figure = new_figure()
    axes = figure.add_subplot()
    for ranking, kinds in document["figures"].items():
        for kind, figures in kinds.items():
            curve = figures["curve"]
            style = "-" if kind == "mask" else "--"
            axes.plot(curve["proposals"], curve["AR"], style, label=f"{kind}, by {ranking}")
    for row, figures in PUBLISHED.items():
        counts = [10, 100, 1000]
        axes.plot(counts, [figures[f"AR@{count}"] for count in counts], ":.", color="0.6", label=row, linewidth=1)
    axes.set(
        xscale="log", ylim=(0, None), xlabel="proposals an image", ylabel="average recall, IoU .5 to .95", title=name
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    return figure
