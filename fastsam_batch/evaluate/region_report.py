"""The regions experiment as a table and a plot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastsam_batch.evaluate.report import markdown_table, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_REGION = ("IoU", "F_beta", "MAE", "AUROC", "AUPRO")


def region_table(document: dict[str, Any], name: str) -> str:
    """A Markdown table of `region_figures`."""
    rows = [[prompt, *(figures[column] for column in _REGION)] for prompt, figures in document["figures"].items()]
    lacking = document["not_in_corpus"]
    left_out = f" Drawn masks left out, for the corpus lacks their photographs: {lacking}." if lacking else ""
    return (
        f"# Regions\n\n{name}: {document['images']} images, {document['images_without_region']} of them without a "
        f"region.{left_out}\n\n{markdown_table(['prompt', 'IoU', 'F-beta', 'MAE', 'AUROC', 'AUPRO'], rows)}"
    )


def region_plot(document: dict[str, Any], name: str) -> Figure:
    """A group of bars a figure, one bar a kind of prompt."""
    figure = new_figure()
    axes = figure.add_subplot()
    prompts = document["figures"]
    width = 0.8 / max(len(prompts), 1)
    for place, (prompt, figures) in enumerate(prompts.items()):
        heights = [figures[column] or 0 for column in _REGION]
        positions = [index + (place - (len(prompts) - 1) / 2) * width for index in range(len(_REGION))]
        axes.bar(positions, heights, width, label=prompt)
    axes.set(ylim=(0, 1), title=name)
    axes.set_xticks(range(len(_REGION)), ["IoU", "F-beta", "MAE", "AUROC", "AUPRO"])
    axes.legend()
    return figure
