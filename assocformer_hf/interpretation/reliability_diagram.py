"""Scores beside what came true, as a picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from assocformer_hf.evaluation.calibration import Reliability

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLES = (("#b45309", "o"), ("#1d4ed8", "s"), ("#15703a", "^"))
ROOM = 3  # how many times the largest count the axis of counts holds: half a step of its powers of ten


def reliability_figure(states: Mapping[str, Reliability]) -> "Figure":
    """The share of decisions in which the label is there over their score, and how many decisions have such a score.

    Args:
        states: up to three by name, such as before and after scaling.

    Returns:
        A matplotlib figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.6), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    most = max(state.count.max() for state in states.values())
    top.plot([0, 1], [0, 1], color="#a1a1aa", lw=1)
    for (name, state), (colour, marker) in zip(states.items(), STYLES, strict=False):
        top.plot(state.score, state.frequency, color=colour, marker=marker, label=f"{name}: ECE {state.error:.4f}")
        bottom.stairs(state.count, np.linspace(0, 1, len(state.count) + 1), color=colour)
    top.set(ylabel="share with the label", ylim=(-0.02, 1.02))
    top.legend(fontsize=9)
    bottom.set(xlabel="score", ylabel="decisions", yscale="symlog", xlim=(0, 1), ylim=(0, ROOM * most))
    return figure


def plot_reliability(states: Mapping[str, Reliability], path: str | Path) -> None:
    """Writes the figure of [`reliability_figure`] to a file; its ending gives the format."""
    reliability_figure(states).savefig(path, dpi=110)
