"""The speed experiment as a table and a plot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastsam_batch.evaluate.report import markdown_table, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
