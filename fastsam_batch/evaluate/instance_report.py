"""The instances experiment as a table and a plot, beside published figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastsam_batch.evaluate.report import images_said, markdown_table, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# FastSAM (Zhao et al. 2023): COCO 2017 validation with ViTDet's boxes.
PUBLISHED: dict[str, dict[str, float]] = {
    "ViTDet-H on COCO (published)": {"AP": 0.510, "AP_small": 0.320, "AP_medium": 0.543, "AP_large": 0.689},
    "SAM on COCO (published)": {"AP": 0.465, "AP_small": 0.308, "AP_medium": 0.510, "AP_large": 0.617},
    "FastSAM on COCO (published)": {"AP": 0.379, "AP_small": 0.239, "AP_medium": 0.434, "AP_large": 0.500},
}
_AP = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")


def instance_table(document: dict[str, Any], name: str) -> str:
    """A Markdown table of `instance_figures`, with the published ones below."""
    rows = [[label, *(figures.get(column) for column in _AP)] for label, figures in PUBLISHED.items()]
    head = [column.replace("_", " ") for column in _AP]
    own = [["this corpus", *(document[column] for column in _AP)], *rows]
    return (
        f"# Instances by box prompts\n\n{name}: {images_said(document)}, {document['truths']} objects, "
        f"{document['prompted']} prompted masks.\n\n{markdown_table(['', *head], own)}"
    )


def instance_plot(document: dict[str, Any], name: str) -> Figure:
    """Mask AP of each category, from the highest."""
    ranked = sorted(document["by_category"].items(), key=lambda item: item[1])[-30:]
    figure = new_figure(6, 1.2 + 0.22 * len(ranked))
    axes = figure.add_subplot()
    axes.barh([category for category, _ in ranked], [ap for _, ap in ranked])
    axes.set(xlim=(0, 1), xlabel="mask AP", title=f"AP {document['AP']:.3f}")
    return figure
