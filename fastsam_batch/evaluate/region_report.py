"""The instances, regions and speed experiments as tables and plots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastsam_batch.evaluate.report import images_said, markdown_table, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# FastSAM (Zhao et al. 2023): COCO 2017 validation with ViTDet's boxes.
PUBLISHED_INSTANCES: dict[str, dict[str, float]] = {
    "ViTDet-H on COCO (published)": {"AP": 0.510, "AP_small": 0.320, "AP_medium": 0.543, "AP_large": 0.689},
    "SAM on COCO (published)": {"AP": 0.465, "AP_small": 0.308, "AP_medium": 0.510, "AP_large": 0.617},
    "FastSAM on COCO (published)": {"AP": 0.379, "AP_small": 0.239, "AP_medium": 0.434, "AP_large": 0.500},
}
_AP = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
_REGION = ("IoU", "F_beta", "MAE", "AUROC", "AUPRO")


def instance_table(document: dict[str, Any], name: str) -> str:
    """A Markdown table of `instance_figures`, with the published ones below."""
    rows = [[label, *(figures.get(column) for column in _AP)] for label, figures in PUBLISHED_INSTANCES.items()]
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


def region_table(document: dict[str, Any], name: str) -> str:
    """A Markdown table of `region_figures`."""
    rows = [[prompt, *(figures[column] for column in _REGION)] for prompt, figures in document["figures"].items()]
    return (
        f"# Regions\n\n{name}: {document['images']} images, {document['images_without_region']} of them without a "
        f"region.\n\n{markdown_table(['prompt', 'IoU', 'F-beta', 'MAE', 'AUROC', 'AUPRO'], rows)}"
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


def speed_table(document: dict[str, Any], name: str) -> str:
    """A Markdown table of `speed_figures`."""
    rows = [[row["prompts"], row["answer_ms"], row["total_ms"]] for row in document["prompts"]]
    return (
        f"# Speed\n\n{name}: {document['images']} images with {document['masks_per_image']:.0f} masks each, on "
        f"{document['machine']}; at most {document['peak_mib']:.0f} MiB held. Medians in milliseconds an image.\n\n"
        f"{markdown_table(['point prompts', 'from stored masks', 'with the network'], rows)}"
    )


def speed_plot(document: dict[str, Any], name: str) -> Figure:
    """Milliseconds an image for each number of prompts: the network's share and the answers'."""
    figure = new_figure()
    axes = figure.add_subplot()
    labels = [row["prompts"] for row in document["prompts"]]
    model = document["model_ms"] or 0.0
    answers = [row["answer_ms"] for row in document["prompts"]]
    if model:
        axes.bar(labels, [model] * len(labels), label="network")
    axes.bar(labels, answers, bottom=model, label="answers from stored masks")
    axes.set(xlabel="point prompts", ylabel="ms an image (median)", title=name)
    axes.legend()
    return figure
