"""Pictures with the labels that a model gives them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from PIL import Image

from assocformer_hf.interpretation.label_names import plot_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN_LABELS = 5  # of a picture
COLUMNS = 5
TILE = 2.2  # inches
RIGHT, WRONG, QUIET = "#18181b", "#b00020", "#52525b"


class Tagged(Protocol):
    """The labels of a picture, the likeliest first, and their probabilities."""

    labels: list[str]
    scores: list[float]


def predictions_figure(
    images: Sequence[Image.Image], tagged: Sequence[Tagged], truths: Sequence[set[str]] | None = None
) -> "Figure":
    """A grid of pictures over their labels.

    Args:
        images: RGB.
        tagged: of each image its labels.
        truths: of each image the labels that it has; those that are wrongly given are marked then, and those that are
            missed named.

    Returns:
        A matplotlib figure.
    """
    from assocformer_hf.interpretation.figure import names_figure

    texts = [_lines(one, None if truths is None else truths[i]) for i, one in enumerate(tagged)]
    columns = min(COLUMNS, len(images))
    rows = -(-len(images) // columns)
    tall = TILE * min(max(image.height / image.width for image in images), 1)
    high = tall + 0.21 * max(map(len, texts)) + 0.25
    figure = names_figure(figsize=(columns * (TILE + 0.15) + 0.15, rows * high))
    width, height = figure.get_size_inches()
    for i, (image, lines) in enumerate(zip(images, texts, strict=True)):
        row, column = divmod(i, columns)
        x, y = 0.15 + column * (TILE + 0.15), height - row * high - tall - 0.1
        axes = figure.add_axes((x / width, y / height, TILE / width, tall / height))
        axes.imshow(image, interpolation="antialiased")
        axes.set_anchor("S")
        axes.axis("off")
        for line, (text, colour) in enumerate(lines):
            figure.text(x / width, (y - 0.15 - 0.21 * line) / height, text, fontsize=9, color=colour, va="center")
    return figure


def _lines(one: Tagged, truth: set[str] | None) -> list[tuple[str, str]]:
    """What stands under a picture, and its colours."""
    shown = zip(one.labels, plot_names(one.labels, 22), one.scores, strict=True)
    lines = [
        (f"{name} {score:.2f}", RIGHT) if truth is None or label in truth else (f"✗ {name} {score:.2f}", WRONG)
        for label, name, score in shown
    ]
    given = set(one.labels)
    if getattr(one, "is_guess", False):
        lines, given = [], set()
    lines = lines[:SHOWN_LABELS] or [("no label reaches its threshold", QUIET)]
    if truth is not None and (missed := sorted(truth - given)):
        names = ", ".join(plot_names(missed, 14))
        lines.append((f"missed: {names if len(names) <= 24 else names[:23] + '…'}", WRONG))
    return lines


def plot_predictions(images: Sequence[Image.Image], tagged: Sequence[Tagged], path: str | Path) -> None:
    """Writes the figure of [`predictions_figure`] to a file; its ending gives the format."""
    predictions_figure(images, tagged).savefig(path, dpi=110)
