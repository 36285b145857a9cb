"""Images and datasets are told apart by their content, wherever they lie."""

from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from assocformer_hf.data.identity import dataset_identity, image_digests
from assocformer_hf.data.schema import multilabel_features

FEATURES = multilabel_features(["cat", "dog"], unknown=True)


def dataset_of(images: list, labels: list | None = None, unknown: list | None = None) -> datasets.Dataset:
    columns = {"image": images, "labels": labels or [[0]] * len(images), "unknown": unknown or [[]] * len(images)}
    return datasets.Dataset.from_dict(columns, FEATURES)


@pytest.fixture
def files(tmp_path) -> list[str]:
    """Two small files and two large ones of the same size and form, as uncompressed images are."""
    folder = tmp_path / "one"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (4, 300, 300, 3), dtype=np.uint8)
    for i, image in enumerate(pixels):
        Image.fromarray(image[:50, :50] if i < 2 else image).save(folder / f"{i}.bmp")
    return [str(folder / f"{i}.bmp") for i in range(4)]


def test_a_digest_stays_with_the_content(files, tmp_path):
    digests = image_digests(dataset_of(files))
    assert digests.dtype == np.uint64
    assert len(set(digests.tolist())) == 4
    moved = [tmp_path / f"moved-{i}.bmp" for i in range(4)]
    for old, new in zip(files, moved, strict=True):
        new.write_bytes(Path(old).read_bytes())
    np.testing.assert_array_equal(image_digests(dataset_of([str(path) for path in moved])), digests)
    embedded = dataset_of([{"bytes": Path(path).read_bytes(), "path": None} for path in files])
    np.testing.assert_array_equal(image_digests(embedded), digests)
    undecoded = embedded.cast_column("image", datasets.Image(decode=False))
    np.testing.assert_array_equal(image_digests(undecoded.select([2, 0])), digests[[2, 0]])
    many = dataset_of(files * 40)  # several batches
    np.testing.assert_array_equal(image_digests(many), np.tile(digests, 40))


def test_files_that_are_missing_or_no_files_count_by_their_names():
    digests = image_digests(dataset_of(["/nowhere/a.jpg", "/nowhere/b.jpg", "https://example.org/a.jpg"]))
    assert len(set(digests.tolist())) == 3


def test_the_identity_knows_images_order_names_and_labels(files, tmp_path):
    whole = dataset_of(files, [[0], [1], [0, 1], []])
    identity = dataset_identity(whole)
    assert identity == dataset_identity(whole, image_digests(whole))
    assert identity == dataset_identity(whole.cast_column("image", datasets.Image(decode=False)))
    folder = tmp_path / "one"
    moved = [str(path) for path in sorted(folder.rename(tmp_path / "two").iterdir())]
    assert dataset_identity(dataset_of(moved, [[0], [1], [0, 1], []])) == identity
    others = [
        dataset_of(moved, [[0], [1], [0, 1], [1]]),
        dataset_of(moved, [[0], [1], [0, 1], []], [[], [], [], [1]]),
        dataset_of(moved[::-1], [[0], [1], [0, 1], []]),
        dataset_of(moved[:3], [[0], [1], [0, 1]]),
        dataset_of(moved, [[0], [1], [0, 1], []]).cast(multilabel_features(["cow", "dog"], unknown=True)),
    ]
    content = bytearray(Path(moved[3]).read_bytes())
    content[-1] ^= 1
    Path(moved[3]).write_bytes(content)
    others.append(dataset_of(moved, [[0], [1], [0, 1], []]))
    assert len({identity, *map(dataset_identity, others)}) == 7
