"""The edges experiment as a table and a precision-recall plot, beside published figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastsam_batch.evaluate.report import markdown_table, new_figure
from fastsam_batch.words import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# FastSAM (Zhao et al. 2023), with SAM's; gPb-owt-ucm as Arbelaez et al. 2011 report it. All on the 200 test images.
PUBLISHED: dict[str, dict[str, float]] = {
    "SAM (published)": {"ODS": 0.768, "OIS": 0.786, "AP": 0.794, "R50": 0.928},
    "FastSAM (published)": {"ODS": 0.750, "OIS": 0.790, "AP": 0.793, "R50": 0.903},
    "gPb-owt-ucm (published)": {"ODS": 0.726, "OIS": 0.760, "AP": 0.727},
}
_FIGURES = ("ODS", "OIS", "AP", "R50")


def edge_table(summary: dict[str, Any], name: str) -> str:
    """A Markdown table of `summarise_edges`' figures under `name`, with the published ones below."""
    rows = [[f"{name} ({summary['images']} images)", *(summary[figure] for figure in _FIGURES)]]
    rows += [[method, *(figures.get(figure) for figure in _FIGURES)] for method, figures in PUBLISHED.items()]
    table = f"# Boundaries\n\n{markdown_table(['', *_FIGURES], rows)}"
    if summary["without_map"]:
        table += f"\nLeft out for want of an edge map: {counted(summary['without_map'], 'drawing')}.\n"
    return table


def edge_plot(summary: dict[str, Any], name: str) -> Figure:
    """Precision against recall over the thresholds, with lines of equal F and the best F marked."""
    figure = new_figure(5.6, 5.2)
    axes = figure.add_subplot()
    recalls = np.linspace(0.01, 1, 200)
    for f in np.arange(0.1, 1, 0.1):
        with np.errstate(divide="ignore"):
            precisions = f * recalls / (2 * recalls - f)
        shown = (precisions > 0) & (precisions <= 1)
        axes.plot(recalls[shown], precisions[shown], color="0.85", linewidth=0.8, zorder=0)
        axes.text(1.005, f / (2 - f), f"F {f:.1f}", color="0.6", fontsize=7, va="center")
    curve = summary["curve"]
    shown = np.asarray(curve["recall"]) > 0
    axes.plot(
        np.asarray(curve["recall"])[shown],
        np.asarray(curve["precision"])[shown],
        label=f"{name}: ODS {summary['ODS']:.3f}, OIS {summary['OIS']:.3f}, AP {summary['AP']:.3f}",
    )
    best = [np.interp(summary["threshold"], curve["threshold"], curve[axis]) for axis in ("recall", "precision")]
    axes.plot(*best, "o", color="C0")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1), title="Boundaries, BSDS500 protocol")
    axes.legend(loc="lower left", fontsize=8)
    return figure
