"""Why an image got a label: the exact parts of its logit, label by label, and its score without any one of them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.special import expit
from torch import Tensor
from transformers import PreTrainedModel

from assocformer_hf.data.schema import DataError
from assocformer_hf.interpretation.label_names import plot_name, plot_names

SHOWN_INFLUENCES = 6
SHOWN_SCORES = 12
SHOWN_PLACES = 5
SUPPORTS, OPPOSES, QUIET = "#1d4ed8", "#b45309", "#a1a1aa"


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

    Attributes:
        label: the label.
        score: its probability.
        logit: the score is its sigmoid.
        threshold: probability from which the label is predicted.
        image: what the linear layer reads off the image, beta N2 of eq. 7; 0 for `fusion="association"`.
        bias: alpha b, the readout's constant part.
        itself: alpha E_cc, the label's own message.
        influences: of all other labels, the largest absolute contribution first.
    """

    label: str
    score: float
    logit: float
    threshold: float
    image: float
    bias: float
    itself: Influence
    influences: list[Influence]

    @property
    def supports(self) -> list[Influence]:
        """The labels that raised the score, the strongest first."""
        return [influence for influence in self.influences if influence.contribution > 0]

    @property
    def opposes(self) -> list[Influence]:
        """The labels that lowered the score, the strongest first."""
        return [influence for influence in self.influences if influence.contribution < 0]

    def __str__(self) -> str:
        def listed(influences: list[Influence]) -> str:
            parts = [
                f"{one.label} {one.contribution:+.2f} (without it {one.score_without:.2f})"
                for one in influences[:SHOWN_INFLUENCES]
            ]
            return ", ".join(parts) or "no label"

        verdict = "predicted" if self.score >= self.threshold else "not predicted"
        return (
            f"{self.label} {self.score:.2f}, {verdict} (threshold {self.threshold:.2f}); logit {self.logit:+.2f} = "
            f"image {self.image:+.2f}, bias {self.bias:+.2f}, itself {self.itself.contribution:+.2f}, other labels "
            f"{sum(one.contribution for one in self.influences):+.2f}\n"
            f"  supported by {listed(self.supports)}\n"
            f"  opposed by {listed(self.opposes)}"
        )


@dataclass
class ImageExplanation:
    """Why an image got its labels.

    Attributes:
        label_names: all labels of the model.
        scores: probabilities, `(labels,)`.
        thresholds: probabilities from which the labels are predicted, `(labels,)`.
        association: A of the image, `(labels, labels)`.
        contributions: alpha E of the image, `(labels, labels)`: the part of label c's logit that came through label j.
        places: what each place of the feature map gave to the logits, `(labels, h, w)`, row 0 at the top of the image;
            None without `pooling="attention"`.
        labels: the explained labels, by falling score.
    """

    label_names: list[str]
    scores: np.ndarray
    thresholds: np.ndarray
    association: np.ndarray
    contributions: np.ndarray
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
) -> ImageExplanation:
    """Explains the labels of an image.

    Args:
        model: AssocFormer with an association module, in evaluation mode.
        pixel_values: one image as the model takes it, `(1, 3, height, width)`.
        labels: names of the labels to explain; default: those that are predicted, or the likeliest where none is.
        thresholds: probability from which each label is predicted, `(labels,)`; default: the model's own.

    Raises:
        DataError: if the model does not know a label, or has no association module.
        ValueError: if there is not exactly one image.
    """
    config = model.config
    names = [config.id2label[i] for i in range(config.num_labels)]
    if config.fusion == "linear":
        raise DataError('fusion="linear" has no association module: there is nothing to explain; use another fusion')
    if unknown := [label for label in labels or [] if label not in config.label2id]:
        raise DataError(f"the model does not know the label {unknown[0]!r}; it knows {', '.join(names)}")
    if len(pixel_values) != 1:
        raise ValueError(f"one image is explained at a time; got pixel_values of shape {tuple(pixel_values.shape)}")
    output = model(pixel_values, output_features=True)
    association, contributions = (_numpy(rows[0]) for rows in model.head.explain(output.features))
    alpha, beta = model.head.fusion_weights
    logits = _numpy(output.logits[0])
    bias = alpha * _numpy(model.head.association.readout.bias) * np.ones(len(names))
    image = np.zeros(len(names)) if output.embedding_logits is None else beta * _numpy(output.embedding_logits[0])
    scores = expit(logits)
    thresholds = np.array(config.thresholds) if thresholds is None else thresholds
    chosen = [config.label2id[label] for label in labels or []] or np.flatnonzero(scores >= thresholds).tolist()
    explanations = []
    for c in sorted(chosen or [int(scores.argmax())], key=lambda c: -scores[c]):
        influences = [
            Influence(name, float(part), float(expit(logits[c] - part)))
            for name, part in zip(names, contributions[c], strict=True)
        ]
        itself = influences.pop(c)
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
            )  # fmt: skip
        )
    places = None if output.places is None else _numpy(output.places[0])
    return ImageExplanation(names, scores, thresholds, association, contributions, places, explanations)


def explanation_figure(image: Image.Image, explanation: ImageExplanation, heat: dict[str, np.ndarray] | None = None):
    """The image, its scores, and for each explained label what raised and lowered it.

    Args:
        image: as it was explained.
        explanation: of the image.
        heat: for labels the map of [`assocformer_hf.interpretation.location.locate`], drawn over the image; default:
            the explanation's own places, where it has them.

    Returns:
        A matplotlib figure.
    """
    from matplotlib.figure import Figure

    if heat is None and explanation.places is not None:
        heat = dict(zip(explanation.label_names, explanation.places, strict=True))
    rows = 1 + len(explanation.labels)
    figure = Figure(figsize=(9, 3.2 * rows), layout="constrained")
    grid = figure.subplots(rows, 2, squeeze=False, width_ratios=(2, 3))
    grid[0, 0].imshow(image)
    _draw_scores(grid[0, 1], explanation)
    for (left, right), label in zip(grid[1:], explanation.labels, strict=True):
        if heat and label.label in heat:
            _draw_heat(left, image, heat[label.label])
            left.set_title(f"{plot_name(label.label)}: what speaks for it, and against", fontsize=10)
        _draw_parts(right, label)
    for axes in grid[:, 0]:
        axes.axis("off")
    return figure


def plot_explanation(
    image: Image.Image,
    explanation: ImageExplanation,
    path: str | Path,
    heat: dict[str, np.ndarray] | None = None,
):
    """Writes the figure of [`explanation_figure`] to a file; its ending gives the format."""
    explanation_figure(image, explanation, heat).savefig(path, dpi=100)


def plot_places(image: Image.Image, explanation: ImageExplanation, path: str | Path, most: int = SHOWN_PLACES):
    """Writes one row of pictures: the image, and where each of its likeliest labels was seen.

    Args:
        image: as it was explained.
        explanation: with places, of a model with `pooling="attention"`.
        path: file; its ending gives the format.
        most: how many labels are shown.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

    labels = explanation.labels[:most]
    places = [explanation.places[explanation.label_names.index(one.label)] for one in labels]
    reach = max(float(np.abs(place).max()) for place in places) or 1.0
    height = 2.4 * image.height / image.width
    figure = Figure(figsize=(2.4 * (1 + len(labels)) + 0.6, height + 0.5), layout="constrained")
    panels = figure.subplots(1, 1 + len(labels), squeeze=False)[0]
    panels[0].imshow(image)
    panels[0].set_title("picture", fontsize=11)
    for axes, one, place in zip(panels[1:], labels, places, strict=True):
        _draw_heat(axes, image, place, reach)
        axes.set_title(f"{plot_name(one.label)} {one.score:.2f}", fontsize=11)
    for axes in panels:
        axes.axis("off")
    scale = figure.colorbar(ScalarMappable(cmap=_from_white()), ax=panels, shrink=0.8, ticks=[0, 1])
    scale.ax.set_yticklabels(["nothing", "much"], fontsize=9)
    scale.set_label("speaks for the label", fontsize=9)
    figure.savefig(path, dpi=100)


def _draw_scores(axes, explanation: ImageExplanation):
    order = np.argsort(-explanation.scores, kind="stable")[:SHOWN_SCORES]
    scores, thresholds = explanation.scores[order], explanation.thresholds[order]
    axes.barh(range(len(order)), scores, color=[SUPPORTS if on else QUIET for on in scores >= thresholds])
    axes.scatter(thresholds, range(len(order)), marker="|", s=90, color="#222", zorder=3)
    axes.set_yticks(range(len(order)), plot_names([explanation.label_names[i] for i in order]), fontsize=9)
    axes.set(xlim=(0, 1), ylim=(len(order) - 0.4, -0.6))
    axes.set_title("scores; the strokes are the thresholds", fontsize=10)


def _draw_parts(axes, label: LabelExplanation):
    shown = label.influences[:SHOWN_INFLUENCES]
    rest = sum(one.contribution for one in label.influences[SHOWN_INFLUENCES:])
    names = ["image", "bias", "itself", *plot_names([one.label for one in shown]), "all other labels"]
    values = [label.image, label.bias, label.itself.contribution, *(one.contribution for one in shown), rest]
    axes.barh(range(len(names)), values, color=[SUPPORTS if value > 0 else OPPOSES for value in values])
    axes.axvline(0, color="#222", lw=0.8)
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set_ylim(len(names) - 0.4, -0.6)
    reach = max(map(abs, values)) or 1
    axes.set_xlim(-1.35 * reach, 1.35 * reach)
    notes = ["", "", *(f"without: {one.score_without:.2f}" for one in (label.itself, *shown)), ""]
    for y, (value, note) in enumerate(zip(values, notes, strict=True)):
        # On the free side of zero, so that no bar runs into it.
        axes.annotate(
            note, (0, y), xytext=(-4 if value > 0 else 4, 0), textcoords="offset points", fontsize=8, va="center",
            ha="right" if value > 0 else "left", color="#52525b",
        )  # fmt: skip
    axes.set_title(f"{plot_name(label.label)} {label.score:.2f} = sigmoid({label.logit:+.2f}), the sum of", fontsize=10)


def _from_white():
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("evidence", ["white", SUPPORTS])


def _draw_heat(axes, image: Image.Image, heat: np.ndarray, reach: float | None = None):
    """A map over the image in grey; what reaches `reach`, by default the map's own highest value, is drawn full."""
    from matplotlib.colors import ListedColormap

    box = (0, 1, 0, 1)
    axes.imshow(image.convert("L"), cmap="gray", extent=box)
    strength = np.abs(heat) / (reach or np.abs(heat).max() or 1)
    axes.imshow(heat > 0, cmap=ListedColormap([OPPOSES, SUPPORTS]), vmin=0, vmax=1, extent=box, alpha=0.8 * strength)
    axes.set_aspect(image.height / image.width)


def _numpy(values: Tensor) -> np.ndarray:
    return values.double().cpu().numpy()
