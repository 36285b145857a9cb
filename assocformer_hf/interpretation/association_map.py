"""The association map: which labels the model relates, as a picture (Figure 4 of the paper)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np


def plot_association_map(association: np.ndarray, label_names: Sequence[str], path: str | Path, title: str = ""):
    """Draws A as a heat map with the label names on both axes.

    Args:
        association: `(labels, labels)`, in (0, 1).
        label_names: names of the labels, in the order of the rows.
        path: file to write; its ending gives the format.
        title: text above the map.
    """
    # The object interface leaves pyplot's global state, and the backend that the caller chose, alone.
    from matplotlib.figure import Figure

    count = len(label_names)
    side = 2.5 + 0.22 * count
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    # 1/2 is "no association either way": the colours part there.
    reach = max(float(np.abs(association - 0.5).max()), 0.01)
    picture = axes.imshow(association, cmap="RdBu_r", vmin=0.5 - reach, vmax=0.5 + reach)
    size = 9 if count <= 40 else 7
    axes.set_xticks(range(count), label_names, rotation=90, fontsize=size)
    axes.set_yticks(range(count), label_names, fontsize=size)
    axes.set_title(title, fontsize=11)
    figure.colorbar(picture, ax=axes, shrink=0.7, label="association A")
    figure.savefig(path, dpi=120)
