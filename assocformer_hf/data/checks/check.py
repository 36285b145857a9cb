"""What is wrong with a dataset, before time is spent on training: its labels in a moment, its images in one pass."""

import hashlib
import os
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import datasets
import numpy as np
import pyarrow.compute as pc
import torch
from PIL import ExifTags, Image

from assocformer_hf.data.images.decoding import ImageError, decode_image, open_image
from assocformer_hf.data.schema import DataError, label_names
from assocformer_hf.data.summary import column_lengths
from assocformer_hf.progress import progress_bar

TINY = 8
BYTES = 16  # of a perceptual hash
DISTANCE = 5  # bits by which images that look alike may differ
UNREADABLE = {
    "missing": "file is missing",
    "empty": "file is empty",
    "huge": "too many pixels: a decompression bomb",
    "no image": "not an image, or of an unknown format",
    "truncated": "begins as an image, but is truncated, damaged, or has pixels of no known range",
}
REPAIRED = {
    "EXIF-rotated": "turned upright",
    "CMYK": "converted to RGB",
    "16-bit": "the upper 8 bits are used",
    "transparent": "transparency is dropped: what is behind it is seen",
    "animated": "the first frame is used",
}
TWELVE_BITS = 1 << 12
DOUBTFUL = {
    "tiny": f"a side of less than {TINY} pixels",
    "large": "more pixels than PIL thinks safe; slow to read",
    "dark 16-bit": "10 or 12 bits in 16, nearly black by the upper 8: stretch them first",
}


@dataclass
class LabelCheck:
    """What the labels of a dataset are like.

    Attributes:
        names: the label set.
        images: number of images by split.
        unlabelled: number of images without a label by split.
        positives: for each split the number of images that have each label, `(labels,)`.
        unknown: the same of images where the label is unknown.
        together: groups of labels that are present in exactly the same images of all splits, at least two.
        min_positives: fewer positives in `train` than this are a finding.
    """

    names: list[str]
    images: dict[str, int]
    unlabelled: dict[str, int]
    positives: dict[str, np.ndarray]
    unknown: dict[str, np.ndarray]
    together: list[list[str]]
    min_positives: int

    def findings(self) -> dict[str, list[str]]:
        """The labels concerned, by what is wrong with them."""
        train = self.positives["train"]
        rare = [f"{name} ({train[i]})" for i, name in enumerate(self.names) if train[i] < self.min_positives]
        found = {f"fewer than {self.min_positives} images in train": rare}
        if "validation" in self.positives:
            found["no image in validation"] = self._where(self.positives["validation"] == 0)
        total = np.sum([*self.positives.values()], axis=0)
        known = sum(self.images.values()) - np.sum([*self.unknown.values()], axis=0)
        found["present in every image where it is known"] = self._where((total == known) & (total > 0))
        found["present in the same images"] = [" = ".join(group) for group in self.together]
        return {what: labels for what, labels in found.items() if labels}

    def require_learnable(self) -> None:
        """Refuses training labels that nothing can be learned from.

        Raises:
            DataError: if no training image has a label, or none is known to lack one.
        """
        present, known = self.positives["train"], self.images["train"] - self.unknown["train"]
        if not present.any():
            raise DataError("no training image has a label; look at how the labels were read, above")
        if (present == known).all():
            raise DataError(
                "every label is present in every training image where it is known, so that nothing can be learned; add "
                "images without it, or, as −1 and empty cells count as unknown, write 0 where a label is absent"
            )

    def shares(self) -> np.ndarray:
        """The share of each label's positives that is in `validation`; NaN for labels without any."""
        held_out = self.positives["validation"]
        total = (self.positives["train"] + held_out).astype(float)
        return np.divide(held_out, total, out=np.full(len(total), np.nan), where=total > 0)

    def _where(self, chosen: np.ndarray) -> list[str]:
        return [name for name, is_chosen in zip(self.names, chosen, strict=True) if is_chosen]


@dataclass(frozen=True)
class FoundImage:
    """An image of a dataset that something was found about; `str` of it is for people.

    Attributes:
        split: one of the dataset's.
        index: of the image in it.
        name: the image's file, or its number, or, where several may have its name, both.
    """

    split: str
    index: int
    name: str

    def __str__(self) -> str:
        return f"{self.split}: {self.name}"


@dataclass
class ImageCheck:
    """What the images of a dataset are like.

    Attributes:
        findings: the images by kind, the keys of `UNREADABLE`, `REPAIRED` and `DOUBTFUL`.
        duplicates: groups of images with the same content.
        similar: for each image that looks like some of an earlier split and is another file, the nearest one and it.
        images: number of images that were looked at.
    """

    findings: dict[str, list[FoundImage]] = field(default_factory=lambda: defaultdict(list))
    duplicates: list[list[FoundImage]] = field(default_factory=list)
    similar: list[list[FoundImage]] = field(default_factory=list)
    images: int = 0

    def across_splits(self) -> list[list[FoundImage]]:
        """The groups of duplicates that lie in several splits."""
        return [group for group in self.duplicates if len({image.split for image in group}) > 1]

    def within_splits(self) -> list[list[FoundImage]]:
        """The other groups of duplicates."""
        return [group for group in self.duplicates if len({image.split for image in group}) == 1]

    def unreadable(self) -> int:
        """Number of images that cannot be used."""
        return sum(len(self.findings[kind]) for kind in UNREADABLE if kind in self.findings)


def check_labels(splits: Mapping[str, datasets.Dataset], min_positives: int = 10) -> LabelCheck:
    """Counts the labels of a dataset's splits; looks at no image.

    Args:
        splits: of the schema of `multilabel_features`, `train` among them.
        min_positives: see [`LabelCheck`].
    """
    names = label_names(splits["train"])
    result = LabelCheck(names, {}, {}, {}, {}, [], min_positives)
    # Labels that are present in the same images have the same sum of random numbers, one for each image.
    generator = np.random.default_rng(0)
    signatures = np.zeros(len(names), dtype=np.uint64)
    for split, dataset in splits.items():
        lengths, labels = _flat(dataset, "labels")
        tokens = generator.integers(1, 2**63, len(dataset), dtype=np.uint64)
        np.add.at(signatures, labels, np.repeat(tokens, lengths))
        result.images[split] = len(dataset)
        result.unlabelled[split] = int((lengths == 0).sum())
        result.positives[split] = np.bincount(labels, minlength=len(names))
        unknown = _flat(dataset, "unknown")[1] if "unknown" in dataset.column_names else np.array([], dtype=int)
        result.unknown[split] = np.bincount(unknown, minlength=len(names))
    total, groups = np.sum([*result.positives.values()], axis=0), defaultdict(list)
    for name, signature, count in zip(names, signatures.tolist(), total.tolist(), strict=True):
        if count > 1:
            groups[signature].append(name)
    result.together = [group for group in groups.values() if len(group) > 1]
    return result


def _flat(dataset: datasets.Dataset, column: str) -> tuple[np.ndarray, np.ndarray]:
    """The lengths of a column of lists, and all their entries."""
    rows = dataset.select_columns([column]).with_format("arrow")[:].column(column)
    return column_lengths(rows).astype(np.int64), pc.list_flatten(rows).to_numpy()


def cooccurrence(dataset: datasets.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """How often labels are together, and how often they could be seen to be.

    Returns:
        The number of images that have both of two labels, `(labels, labels)`, on the diagonal those that have one; and
        of the images with the label of the row those where that of the column is known, likewise.
    """
    rows = dataset.select_columns([name for name in ("labels", "unknown") if name in dataset.features])[:]
    together, unknown = np.zeros((2, *[len(label_names(dataset))] * 2), dtype=np.int32)
    for row in rows["labels"]:
        together[np.ix_(row, row)] += 1
    for row, not_known in zip(rows["labels"], rows.get("unknown", ()), strict=False):
        unknown[np.ix_(row, not_known)] += 1
    return together, np.diag(together)[:, None] - unknown


def check_images(splits: Mapping[str, datasets.Dataset], num_workers: int = 2) -> ImageCheck:
    """Decodes every image and looks for what training would stumble over.

    Args:
        splits: of the schema of `multilabel_features`.
        num_workers: processes that decode.
    """
    result, seen, looks = ImageCheck(), defaultdict(list), {}
    for split, dataset in splits.items():
        images = _Inspection(dataset.select_columns(["image"]))
        loader = torch.utils.data.DataLoader(images, 16, num_workers=num_workers, collate_fn=list)
        batches = progress_bar(loader, desc=f"check {split}", unit="batches")
        for index, (name, digest, look, kinds) in enumerate(found for batch in batches for found in batch):
            image = FoundImage(split, index, name)
            for kind in kinds:
                result.findings[kind].append(image)
            if digest:
                seen[digest].append(image)
            if look is not None:
                looks[digest] = look
        result.images += len(dataset)
    result.duplicates = [group for group in seen.values() if len(group) > 1]
    files = [seen[digest] for digest in looks]
    order = list(splits)
    of_split = np.array([order.index(images[0].split) for images in files])
    hashes = np.stack(list(looks.values())) if looks else np.empty((0, BYTES), np.uint8)
    result.similar = [[files[i][0], files[j][0]] for i, j in similar_across(hashes, of_split)]
    return result


def _name(stored: Mapping | None, index: int) -> str:
    """What findings call an image of a split, see [`FoundImage`]."""
    if stored is None or not stored["path"]:
        return f"image {index}"
    return stored["path"] if stored["bytes"] is None else f"{stored['path']} (image {index})"


def perceptual_hash(image: Image.Image) -> np.ndarray | None:
    """What an image looks like in 128 bits, `(16,)` bytes; None for images with nearly nothing on them.

    Each bit says whether a part is brighter than the one right of it, or below it, on a grid of 9 by 9 (dHash, Krawetz,
    "Kind of like that", 2013): resizing and new compression change few bits.
    """
    grey = np.asarray(image.convert("L").resize((9, 9), Image.Resampling.LANCZOS), dtype=np.int16)
    if grey.std() < 2:
        return None
    across, down = grey[:8, :8] > grey[:8, 1:], grey[:8, :8] > grey[1:, :8]
    return np.packbits(np.concatenate([across.ravel(), down.ravel()]))


def similar_across(looks: np.ndarray, splits: np.ndarray, distance: int = DISTANCE) -> list[tuple[int, int]]:
    """For each image that looks like images of earlier splits, the nearest of these.

    Args:
        looks: `(images, 16)`, from [`perceptual_hash`].
        splits: number of the split of each image, `(images,)`.
        distance: bits, below 8: two hashes that near have one of eight parts in common, by which they are found.

    Returns:
        Pairs of positions in `looks`: `(the nearest one, the image)`, sorted by the image.
    """
    nearest: dict[int, tuple[int, int]] = {}  # bits and image
    for part in range(0, BYTES, 2) if len(looks) else ():
        _, groups = np.unique(looks[:, part : part + 2], axis=0, return_inverse=True)
        by_group = np.argsort(groups.ravel(), kind="stable")
        for group in np.split(by_group, np.cumsum(np.bincount(groups.ravel()))[:-1]):
            for image in group[splits[group] > splits[group].min()]:
                if nearest.get(int(image), (1, 0))[0] == 0:  # its likes are all in the first part's group
                    continue
                others = group[splits[group] < splits[image]]
                bits = np.unpackbits(looks[others] ^ looks[image], axis=1).sum(1)
                found = int(bits.min()), int(others[bits.argmin()])
                if found[0] <= distance:
                    nearest[int(image)] = min(found, nearest.get(int(image), found))
    return [(other, image) for image, (_, other) in sorted(nearest.items())]


class _Inspection(torch.utils.data.Dataset):
    """For each image its name, a digest of its content, what it looks like, and the kinds of findings."""

    def __init__(self, dataset: datasets.Dataset):
        self.dataset = dataset.cast_column("image", datasets.Image(decode=False))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[str, bytes | None, np.ndarray | None, list[str]]:
        stored = self.dataset[index]["image"]
        name, content = _name(stored, index), stored and stored["bytes"]
        if content is None:
            if not os.path.isfile(name):
                return name, None, None, ["missing"]
            with open(name, "rb") as file:
                content = file.read()
        kinds, image = inspect_image(content)
        digest = hashlib.sha256(content).digest() if content else None
        return name, digest, None if image is None else perceptual_hash(image), kinds


def inspect_image(content: bytes) -> tuple[list[str], Image.Image | None]:
    """The kinds of findings about an image file, keys of `UNREADABLE`, `REPAIRED` and `DOUBTFUL`, and the image."""
    if not content:
        return ["empty"], None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            stored = open_image(content)
        except ImageError as error:
            return ["huge" if error.too_large else "no image"], None
        with stored:
            try:
                image = decode_image(content)
            except ImageError:
                return ["truncated"], None
            return list(_properties(stored)), image  # after the pixels, behind which PNG keeps its EXIF


def _properties(image: Image.Image) -> Iterator[str]:
    if image.width * image.height > Image.MAX_IMAGE_PIXELS:
        yield "large"
    if min(image.size) < TINY:
        yield "tiny"
    if getattr(image, "is_animated", False):
        yield "animated"
    if image.mode == "CMYK":
        yield "CMYK"
    if image.mode.startswith("I"):
        yield "16-bit"
        if np.asarray(image).max() < TWELVE_BITS:
            yield "dark 16-bit"
    if image.has_transparency_data and image.convert("RGBA").getextrema()[3][0] < 255:
        yield "transparent"
    if image.getexif().get(ExifTags.Base.Orientation, 1) not in (0, 1):
        yield "EXIF-rotated"
