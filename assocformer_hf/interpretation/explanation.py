"""Why an image got a label: the exact parts of its logit, label by label, and its score without any one of them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageOps
from scipy.special import expit
from torch import Tensor
from transformers import PreTrainedModel

from assocformer_hf.data.images.decoding import decode_image
from assocformer_hf.data.schema import DataError
from assocformer_hf.evaluation.metrics import reaches
from assocformer_hf.evaluation.trained_model import NO_NUMBERS
from assocformer_hf.interpretation.label_names import plot_name
from assocformer_hf.interpretation.location import require_labels
from assocformer_hf.interpretation.why import why_in_words

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN_INFLUENCES = 6
SHOWN_LABELS = 8  # of a figure
SHOWN_PLACES = 5
DRAWN = 640  # pixels of a side: more of a photograph than a figure shows
COLUMNS = 5  # of a figure
TILE, SCALE_WIDTH, TABLE_WIDTH = 2.3, 1.05, 7.5  # inches
SEEN = 0.1  # share of the strongest evidence from which evidence against a label is told from nothing
SUPPORTS, OPPOSES = "#1d4ed8", "#b45309"


@dataclass
class Influence:
    """What one label did for another.

    Attributes:
        label: the label that the message came from.
        contribution: to the other label's logit: alpha E_cj.
        score_without: the other label's score if this message had not come; all else as it is.
    """

    label: str
    contribution: float
    score_without: float


@dataclass
class LabelExplanation:
    """The parts of a label's logit: `logit = image + bias + itself + sum of the influences`, exactly.

    With `fusion="linear"`, which has no association module, `logit = image`.

    Attributes:
        label: the label.
        score: its probability.
        logit: the score is its sigmoid.
        threshold: probability from which the label is predicted.
        image: what the linear layer reads off the image, beta N2 of eq. 7; 0 for `fusion="association"`.
        bias: alpha b, the readout's constant part.
        itself: alpha E_cc, the label's own message; None with `fusion="linear"`.
        influences: of all other labels, the largest absolute contribution first.
        name_others: whether text and figure say which other labels did most. Where A is not surely worth
            anything to a model, naming the senders of the largest may mislead: all that the messages gave together is
            then a second reading of the picture, and called so.
    """

    label: str
    score: float
    logit: float
    threshold: float
    image: float
    bias: float
    itself: Influence | None
    influences: list[Influence]
    name_others: bool = True

    @property
    def supports(self) -> list[Influence]:
        """The labels that raised the score, the strongest first."""
        return [influence for influence in self.influences if influence.contribution > 0]

    @property
    def opposes(self) -> list[Influence]:
        """The labels that lowered the score, the strongest first."""
        return [influence for influence in self.influences if influence.contribution < 0]

    @property
    def called(self) -> str:
        """What the influences together are called."""
        return "other labels" if self.name_others else "second reading"

    def in_words(self) -> str:
        """Where the evidence came from, as half a sentence."""
        others = [(one.label, one.contribution) for one in self.influences]
        if not self.name_others:
            predicted = self.score >= self.threshold
            return "from the picture itself" if predicted else "the picture itself speaks against it"
        return why_in_words(self.logit - sum(part for _, part in others), others, self.threshold)

    def __str__(self) -> str:
        def listed(influences: list[Influence]) -> str:
            parts = [
                f"{one.label} {one.contribution:+.2f} (without it {one.score_without:.2f})"
                for one in influences[:SHOWN_INFLUENCES]
            ]
            return ", ".join(parts) or "no label"

        verdict = "predicted" if self.score >= self.threshold else "not predicted"
        text = f"{self.label} {self.score:.2f}, {verdict} (threshold {self.threshold:.2f}): {self.in_words()}\n"
        if self.itself is None:
            return f"{text}  logit {self.logit:+.2f}"
        text += (
            f"  logit {self.logit:+.2f} = image {self.image:+.2f}, bias {self.bias:+.2f}, itself "
            f"{self.itself.contribution:+.2f}, {self.called} {sum(one.contribution for one in self.influences):+.2f}"
        )
        if not self.name_others:
            return text
        return f"{text}\n  supported by {listed(self.supports)}\n  opposed by {listed(self.opposes)}"


@dataclass
class ImageExplanation:
    """Why an image got its labels.

    Attributes:
        label_names: all labels of the model.
        scores: probabilities, `(labels,)`.
        thresholds: probabilities from which the labels are predicted, `(labels,)`.
        association: A of the image, `(labels, labels)`; None with `fusion="linear"`.
        contributions: alpha E of the image, `(labels, labels)`: the part of label c's logit that came through label j;
            None with `fusion="linear"`.
        places: what each place of the feature map gave to the logits, `(labels, h, w)`, row 0 at the top of the image;
            None without `pooling="attention"`.
        labels: the explained labels, by falling score.
    """

    label_names: list[str]
    scores: np.ndarray
    thresholds: np.ndarray
    association: np.ndarray | None
    contributions: np.ndarray | None
    places: np.ndarray | None
    labels: list[LabelExplanation]

    def to_dict(self) -> dict:
        """Scores and explanations, ready for JSON; the matrices are left out."""
        scores = dict(zip(self.label_names, self.scores.tolist(), strict=True))
        return {"scores": scores, "explanations": [asdict(label) for label in self.labels]}


@torch.no_grad()
def explain_image(
    model: PreTrainedModel,
    pixel_values: Tensor,
    labels: Sequence[str] | None = None,
    thresholds: np.ndarray | None = None,
    name_others: bool = True,
) -> ImageExplanation:
    """Explains the labels of an image.

    Args:
        model: AssocFormer in evaluation mode.
        pixel_values: one image as the model takes it, `(1, 3, height, width)`.
        labels: names of the labels to explain; default: those that are predicted, or the likeliest where none is.
        thresholds: probability from which each label is predicted, `(labels,)`; default: the model's own.
        name_others: see [`LabelExplanation`].

    Raises:
        DataError: if the model does not know a label, or gives scores that are no numbers.
        ValueError: if there is not exactly one image.
    """
    config = model.config
    names = config.label_names
    require_labels(config, labels or [])
    if len(pixel_values) != 1:
        raise ValueError(f"one image is explained at a time; got pixel_values of shape {tuple(pixel_values.shape)}")
    output = model(pixel_values, output_features=True)
    association = contributions = None
    alpha, beta = model.head.fusion_weights
    bias = np.zeros(len(names))
    if config.fusion != "linear":
        association, contributions = (_numpy(rows[0]) for rows in model.head.explain(output.features))
        bias += alpha * _numpy(model.head.association.readout(torch.float32)[1])
    logits = _numpy(output.logits[0])
    if not np.isfinite(logits).all():
        raise DataError(NO_NUMBERS)
    image = np.zeros(len(names)) if output.embedding_logits is None else beta * _numpy(output.embedding_logits[0])
    scores = expit(logits)
    thresholds = np.array(config.thresholds) if thresholds is None else thresholds
    tagged = np.flatnonzero(reaches(scores.astype(np.float32), thresholds)).tolist()
    chosen = [names.index(label) for label in labels or []] or tagged
    explanations = []
    for c in sorted(chosen or [int(scores.argmax())], key=lambda c: -scores[c]):
        parts = [] if contributions is None else zip(names, contributions[c], strict=True)
        influences = [Influence(name, float(part), float(expit(logits[c] - part))) for name, part in parts]
        itself = influences.pop(c) if influences else None
        influences.sort(key=lambda one: -abs(one.contribution))
        explanations.append(
            LabelExplanation(
                names[c],
                float(scores[c]),
                float(logits[c]),
                float(thresholds[c]),
                float(image[c]),
                float(bias[c]),
                itself,
                influences,
                name_others and contributions is not None,
            )  # fmt: skip
        )
    places = None if output.places is None else _numpy(output.places[0])
    return ImageExplanation(names, scores, thresholds, association, contributions, places, explanations)


def explanation_figure(
    image: Image.Image, explanation: ImageExplanation, heat: dict[str, np.ndarray] | None = None
) -> "Figure":
    """The image, where in it each explained label was seen, and in numbers what came of the image and of other labels.

    Each map has a scale of its own: it is darkest where most speaks for its label, or against it. Of more than eight
    explained labels the likeliest eight are shown.

    Args:
        image: as it was explained; one that its EXIF turns is turned.
        explanation: of the image.
        heat: for labels the map of [`assocformer_hf.interpretation.location.locate`], drawn over the image; default:
            the explanation's own places, where it has them.

    Returns:
        A matplotlib figure.
    """
    image = decode_image(image)
    if heat is None:
        heat = {}
        if explanation.places is not None:
            heat = dict(zip(explanation.label_names, explanation.places, strict=True))
    labels = explanation.labels[:SHOWN_LABELS]
    seen = [label for label in labels if label.label in heat]
    table = 0.26 * (len(labels) + 1) + 0.5  # inches
    figure, above = _figure_with_tiles(image, 1 + len(seen), COLUMNS, TABLE_WIDTH, table)
    _draw_tiles(above, image, seen, heat)
    _draw_table(figure, labels, len(explanation.labels) - len(labels), table)
    return figure


def plot_explanation(
    image: Image.Image,
    explanation: ImageExplanation,
    path: str | Path,
    heat: dict[str, np.ndarray] | None = None,
) -> None:
    """Writes the figure of [`explanation_figure`] to a file; its ending gives the format."""
    explanation_figure(image, explanation, heat).savefig(path, dpi=100)


def plot_places(image: Image.Image, explanation: ImageExplanation, path: str | Path, most: int = SHOWN_PLACES) -> None:
    """Writes one row of pictures: the image, and where each of its likeliest labels was seen.

    Args:
        image: as it was explained; one that its EXIF turns is turned.
        explanation: with places, of a model with `pooling="attention"`.
        path: file; its ending gives the format.
        most: how many labels are shown.
    """
    image = decode_image(image)
    labels = explanation.labels[:most]
    heat = dict(zip(explanation.label_names, explanation.places, strict=True))
    figure, panels = _figure_with_tiles(image, 1 + len(labels), 1 + len(labels))
    _draw_tiles(panels, image, labels, heat)
    figure.savefig(path, dpi=100)


def _figure_with_tiles(image: Image.Image, tiles: int, columns: int, least_width: float = 0, below: float = 0.1):
    """A figure that is as large as its tiles of the image's shape, and its axes: those of the tiles, and of a scale.

    Args:
        image: as it is drawn.
        tiles: how many there are.
        columns: how many stand side by side at most.
        least_width: of the figure, in inches.
        below: inches that are left free under the tiles.
    """
    from assocformer_hf.interpretation.figure import names_figure

    rows = -(-tiles // columns)
    columns = -(-tiles // rows)
    width = TILE if image.height <= image.width else max(TILE * image.width / image.height, 1.5)
    height = width * image.height / image.width
    size = (max(columns * (width + 0.12) + SCALE_WIDTH, least_width), rows * (height + 0.36) + below)
    figure = names_figure(figsize=size)

    def axes(x: float, y: float, wide: float, high: float):
        return figure.add_axes((x / size[0], y / size[1], wide / size[0], high / size[1]))

    left, top = 0.1, size[1] - 0.3
    places = [divmod(i, columns) for i in range(tiles)]
    panels = [axes(left + i * (width + 0.12), top - height - row * (height + 0.36), width, height) for row, i in places]
    scale = axes(left + columns * (width + 0.12) + 0.05, top - 0.9 * height, 0.12, 0.8 * height)
    return figure, [*panels, scale]


def _draw_tiles(panels: list, image: Image.Image, labels: list[LabelExplanation], heat: dict[str, np.ndarray]):
    """The image, and over it in grey where each label was seen, each on a scale of its own."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colorbar import Colorbar
    from matplotlib.colors import Normalize

    *tiles, scale = panels
    if max(image.size) > DRAWN:
        image = ImageOps.contain(image, (DRAWN, DRAWN))
    for axes in tiles:
        axes.axis("off")
    tiles[0].imshow(image)
    tiles[0].set_title("picture", fontsize=11)
    if not labels:
        scale.remove()
        return
    places = [heat[label.label] / (float(np.abs(heat[label.label]).max()) or 1.0) for label in labels]
    against = min(float(place.min()) for place in places) < -SEEN
    for axes, label, place in zip(tiles[1:], labels, places, strict=True):
        _draw_heat(axes, image, place, against)
        axes.set_title(f"{plot_name(label.label, 20)} {label.score:.2f}", fontsize=11)
    mapped = ScalarMappable(Normalize(-1 if against else 0, 1), _evidence_colours(against))
    bar = Colorbar(scale, mapped, ticks=[-1, 0, 1] if against else [0, 1])
    said = ["most\nagainst it", "nothing", "most\nfor it"]
    bar.ax.set_yticklabels(said if against else said[1:], fontsize=9)


def _draw_table(figure, labels: list[LabelExplanation], left_out: int, high: float):
    """What the logits are the sum of, in numbers."""
    width = figure.get_figwidth()
    axes = figure.add_axes((0, 0, 1, high / figure.get_figheight()))
    axes.axis("off")
    stops = [0.15, 2.25, 2.95, 4.15, 4.7]  # inches
    whole = labels[0].itself is None
    heads = ["label", "score", "picture", labels[0].called, "most of these" if labels[0].name_others else ""]
    note = f"picture + {labels[0].called} = logit; the score is 1 / (1 + exp(-logit))"
    if whole:
        heads, note = ["label", "score", "logit", "", ""], "the score is 1 / (1 + exp(-logit))"

    def write(y: float, cells: list[str], **style):
        for i, (x, text) in enumerate(zip(stops, cells, strict=True)):
            right = 1 <= i <= 3
            place = x + 0.55 if right else x + 0.15 * (i == 4)
            axes.text(place / width, y, text, ha="right" if right else "left", va="center", fontsize=9, **style)

    step = 0.26 / high
    y = 1 - 0.2 / high
    write(y, heads, color="#52525b")
    for label in labels:
        y -= step
        others = sum(one.contribution for one in label.influences)
        named = label.influences[: 2 * label.name_others]
        most = ", ".join(f"{plot_name(one.label, 16)} {one.contribution:+.2f}" for one in named)
        parts = [f"{label.logit - others:+.2f}", "" if whole else f"{others:+.2f}"]
        cells = [plot_name(label.label), f"{label.score:.2f}", *parts, most]
        write(y, cells, color="#18181b" if label.score >= label.threshold else "#71717a")
    if left_out:
        note += f"; {left_out} more labels in explanations.json"
    axes.text(0.15 / width, y - 1.15 * step, note, va="center", fontsize=8, color="#52525b")


def _evidence_colours(against: bool):
    from matplotlib.colors import ListedColormap

    strength = np.linspace(-1 if against else 0, 1, 255)
    cover = _cover(strength)[:, None]
    return ListedColormap(1 - cover + cover * _tints()[(strength > 0).astype(int)])


def _tints() -> np.ndarray:
    """The colours of what speaks against a label and for it, `(2, 3)`."""
    return np.array([[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in (OPPOSES, SUPPORTS)])


def _cover(strength: np.ndarray) -> np.ndarray:
    """How far a colour covers what is below it; what is weak shows a little more than in proportion."""
    return np.abs(strength) ** 0.75


def _draw_heat(axes, image: Image.Image, heat: np.ndarray, against: bool):
    """A map of values up to 1 over the image in grey."""
    strength = Image.fromarray(heat.astype(np.float32)).resize(image.size, Image.Resampling.BILINEAR)
    strength = np.array(strength).clip(-1 if against else 0, 1)
    grey = np.array(image.convert("L"), dtype=np.float32)[..., None] / 255
    cover = 0.8 * _cover(strength)[..., None]
    axes.imshow((1 - cover) * grey + cover * _tints()[(strength > 0).astype(int)])


def _numpy(values: Tensor) -> np.ndarray:
    return values.double().cpu().numpy()
