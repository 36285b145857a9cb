"""The embedded dataset `scenes`: drawn images whose labels go together as those of PASCAL VOC 2007 do.

Each image shows the motifs of a label set that is drawn from the maximum-entropy distribution with the marginals and
the pairwise co-occurrence of VOC 2007 trainval. Position, scale, rotation, colour, background, clutter and occlusion
vary; some labels are small, and some share most of their shape, so that the other labels of the image help.
"""

import colorsys
import io
import json
from functools import cache
from itertools import combinations
from pathlib import Path

import datasets
import numpy as np
from PIL import Image, ImageDraw

from assocformer_hf.data.scenes.motifs import MOTIFS, Pen
from assocformer_hf.data.schema import DataError, multilabel_features

SPLIT_SIZES = {"train": 4000, "validation": 1000}
MAX_LABELS = 5
GOLDEN_SECTION = 0.618034  # spaces the hues of the labels evenly

# How hard the images are.
OBJECT_SIZE = (0.45, 0.75)  # side of an object as a share of the image's
SMALL_LABELS = ("bottle", "bird", "pottedplant", "tvmonitor")
SMALL_FACTOR = 0.7
SECOND_INSTANCE = 0.15  # probability that a label is drawn twice
MAX_ROTATION = 15  # degrees
MAX_OVERLAP = 0.35  # share of the smaller of two objects, as far as the image has room
PLACEMENT_TRIES = 8
MAX_CLUTTER = 3  # strokes and blobs that are no label
HUE_SPREAD = 0.05  # standard deviation of an object's hue about that of its label, in turns; neighbours are 0.05 apart
NOISE = 6.0  # standard deviation of the pixel noise, in grey levels
SUPERSAMPLING = 2


@cache
def voc2007_cooccurrence() -> dict:
    """Names, image counts and pair counts of the 20 labels of VOC 2007 trainval, as published with ML-GCN."""
    return json.loads(Path(__file__).with_name("voc2007_cooccurrence.json").read_text(encoding="utf-8"))


def load_scenes(
    split: str = "train",
    size: int | None = None,
    image_size: int = 64,
    seed: int = 0,
    coupling: float = 1.0,
    noise: float = NOISE,
) -> datasets.Dataset:
    """Draws one split; an image depends only on its index and the options, so a smaller split is a part of a larger.

    Args:
        split: `"train"` (4,000 images) or `"validation"` (1,000).
        size: number of images, where it shall be another.
        image_size: side of the square images in pixels.
        seed: seed of labels and pictures.
        coupling: how strongly the labels depend on each other, see [`label_set_distribution`].
        noise: standard deviation of the pixel noise, in grey levels; more makes single objects more ambiguous.

    Returns:
        A dataset of the schema of `multilabel_features`, in memory, its images as PNG.

    Raises:
        DataError: on an unknown split, a size that is not positive, or a coupling or noise that is negative.
    """
    if split not in SPLIT_SIZES:
        raise DataError(f"scenes has no split {split!r}; expected one of {', '.join(SPLIT_SIZES)}")
    size = SPLIT_SIZES[split] if size is None else size
    for name, value in (("size", size), ("image_size", image_size)):
        if value < 1:
            raise DataError(f"{name} of scenes must be at least 1, got {value}")
    for name, value in (("coupling", coupling), ("noise", noise)):
        if value < 0:
            raise DataError(f"{name} of scenes must be at least 0, got {value}")
    names = voc2007_cooccurrence()["labels"]
    label_sets, probabilities = label_set_distribution(coupling)
    cumulative = np.cumsum(probabilities)
    rows = {"image": [], "labels": []}
    for index in range(size):
        generator = np.random.default_rng([seed, list(SPLIT_SIZES).index(split), index])
        drawn = min(int(np.searchsorted(cumulative, generator.random())), len(label_sets) - 1)
        labels = np.flatnonzero(label_sets[drawn]).tolist()
        buffer = io.BytesIO()
        scene = draw_scene([names[label] for label in labels], image_size, generator, noise)
        scene.save(buffer, "PNG", compress_level=1)
        rows["image"].append({"bytes": buffer.getvalue(), "path": None})
        rows["labels"].append(labels)
    return datasets.Dataset.from_dict(rows, features=multilabel_features(names), split=split)


@cache
def label_set_distribution(coupling: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """The label sets that occur, `(sets, labels)` of 0 and 1, and their probabilities, `(sets,)`.

    The maximum-entropy distribution over the sets of one to five labels, none of whose pairs is never seen in VOC 2007,
    under VOC's marginals and pair frequencies.

    Args:
        coupling: factor of the interactions between the labels of a pair. VOC's marginals are kept. At 0 every set of
            one to five labels can occur, and what is left of dependence is that no image is without a label.
    """
    counts = voc2007_cooccurrence()
    marginals = np.array(counts["counts"]) / counts["images"]
    pairs = np.array(counts["pair_counts"]) / counts["images"]
    first, second = np.nonzero(np.triu(pairs, 1))
    label_sets = _possible_sets((pairs > 0) | (coupling == 0))
    products = label_sets[:, first] * label_sets[:, second]
    if coupling == 1:
        targets = np.concatenate([marginals, pairs[first, second]])
        return label_sets, _softmax(_maximum_entropy(np.hstack([label_sets, products]), targets))[0]
    interactions = np.zeros(len(label_sets))
    if coupling > 0:
        # The logits of VOC's own distribution are linear in the labels and the pairs: its pair weights are solved for.
        logits = np.log(label_set_distribution()[1])
        design = np.hstack([np.ones((len(label_sets), 1)), label_sets, products])
        weights = np.linalg.lstsq(design, logits)[0][1 + len(marginals) :]
        interactions = coupling * products @ weights
    return label_sets, _softmax(_maximum_entropy(label_sets, marginals, interactions))[0]


def _maximum_entropy(features: np.ndarray, targets: np.ndarray, base: np.ndarray | float = 0.0) -> np.ndarray:
    """Logits `base + features @ weights` with the expected features asked for: Newton's method on the convex dual."""
    weights = np.zeros(len(targets))
    for _ in range(100):
        probabilities, log_partition = _softmax(base + features @ weights)
        expected = probabilities @ features
        gradient = expected - targets
        if np.abs(gradient).max() < 1e-9:
            break
        hessian = (features.T * probabilities) @ features - np.outer(expected, expected)
        step = np.linalg.solve(hessian + 1e-12 * np.eye(len(targets)), gradient)
        objective, rate = log_partition - targets @ weights, 1.0
        while rate > 1e-6:
            trial = weights - rate * step
            if _softmax(base + features @ trial)[1] - targets @ trial < objective:
                break
            rate /= 2
        weights = trial
    return base + features @ weights


def _possible_sets(possible: np.ndarray) -> np.ndarray:
    rows = []
    for count in range(1, MAX_LABELS + 1):
        for labels in combinations(range(len(possible)), count):
            if all(possible[i, j] for i, j in combinations(labels, 2)):
                rows.append(np.isin(np.arange(len(possible)), labels))
    return np.array(rows, dtype=np.float64)


def _softmax(logits: np.ndarray) -> tuple[np.ndarray, float]:
    shifted = np.exp(logits - logits.max())
    return shifted / shifted.sum(), float(np.log(shifted.sum()) + logits.max())


def draw_scene(names: list[str], image_size: int, generator: np.random.Generator, noise: float = NOISE) -> Image.Image:
    """A picture of the named labels, `image_size` pixels square, with pixel noise of that standard deviation."""
    side = image_size * SUPERSAMPLING
    canvas = _background(side, generator)
    _scatter_clutter(canvas, generator)
    objects = [name for name in names for _ in range(1 + (generator.random() < SECOND_INSTANCE))]
    placed: list[tuple[float, float, float]] = []
    for name in generator.permutation(objects):
        size = generator.uniform(*OBJECT_SIZE) * (SMALL_FACTOR if name in SMALL_LABELS else 1)
        x, y = _place(size, placed, generator)
        placed.append((x, y, size))
        motif = _draw_motif(name, round(size * side), generator)
        canvas.paste(motif, (round(x * side), round(y * side)), motif)
    pixels = np.asarray(canvas.reduce(SUPERSAMPLING), dtype=np.float32)
    pixels = pixels + generator.normal(0, noise, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _draw_motif(name: str, pixels: int, generator: np.random.Generator) -> Image.Image:
    """One object on a transparent square."""
    hue = list(MOTIFS).index(name) * GOLDEN_SECTION + generator.normal(0, HUE_SPREAD)
    pen = Pen(pixels, _colour(hue, generator), generator)
    MOTIFS[name](pen)
    image = pen.image.rotate(generator.uniform(-MAX_ROTATION, MAX_ROTATION), Image.Resampling.BILINEAR)
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if generator.random() < 0.5 else image


def _place(size: float, placed: list[tuple], generator: np.random.Generator) -> tuple[float, float]:
    """A corner for an object, of a few at random the first that hides no other, else the one that hides least."""
    best, least = (0.0, 0.0), np.inf
    for _ in range(PLACEMENT_TRIES):
        x, y = generator.uniform(0, 1 - size, 2)
        hidden = 0.0
        for other_x, other_y, other_size in placed:
            width = min(x + size, other_x + other_size) - max(x, other_x)
            height = min(y + size, other_y + other_size) - max(y, other_y)
            hidden = max(hidden, max(width, 0) * max(height, 0) / min(size, other_size) ** 2)
        if hidden < least:
            best, least = (x, y), hidden
        if hidden <= MAX_OVERLAP:
            break
    return best


def _background(side: int, generator: np.random.Generator) -> Image.Image:
    """A gradient between two muted colours, sometimes with a horizon."""
    top, bottom = generator.uniform(60, 200, (2, 1)) + generator.uniform(-25, 25, (2, 3))
    blend = np.linspace(0, 1, side)[:, None]
    if generator.random() < 0.5:
        blend = (blend > generator.uniform(0.35, 0.75)).astype(float)
    column = (1 - blend) * top + blend * bottom
    return Image.fromarray(np.repeat(column[:, None], side, axis=1).astype(np.uint8))


def _scatter_clutter(canvas: Image.Image, generator: np.random.Generator):
    """Strokes and blobs that belong to no label."""
    pencil = ImageDraw.Draw(canvas)
    for _ in range(generator.integers(MAX_CLUTTER + 1)):
        x, y = generator.uniform(0, canvas.width, 2)
        width, height = generator.uniform(0.05, 0.2, 2) * canvas.width
        if generator.random() < 0.5:
            pencil.line(
                (x, y, x + width, y + height),
                fill=_colour(generator.random(), generator),
                width=int(generator.integers(1, 5)),
            )
        else:
            pencil.ellipse((x, y, x + width / 2, y + height / 2), fill=_colour(generator.random(), generator))


def _colour(hue: float, generator: np.random.Generator) -> tuple[int, ...]:
    """A saturated colour, so that it stands out from the muted backgrounds; the hue is in turns."""
    saturation, value = generator.uniform((0.7, 0.55), (1, 1))
    return tuple(int(255 * channel) for channel in colorsys.hsv_to_rgb(hue % 1, saturation, value))
