"""Small images and tables of them, and what a split says about them."""

import hashlib
from pathlib import Path

from PIL import Image

from assocformer_hf.data.load import load_multilabel_dataset
from assocformer_hf.data.schema import label_names

EXPECTED = [{"cat"}, {"cat", "dog"}, set(), {"dog"}]
ROWS = "file_name,labels\n0.jpg,cat\n1.jpg,cat|dog\n2.jpg,\n3.jpg,dog\n"


def picture(path: Path, of: str | None = None):
    """Writes an image of one colour, another for each place, or for what it is said to be of."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = hashlib.sha256((of or str(path)).encode()).digest()
    Image.new("RGB", (8, 8), tuple(colour[:3])).save(path)


def labels_by_file(split) -> dict:
    names = label_names(split)
    unknown = split["unknown"] if "unknown" in split.column_names else [[]] * len(split)
    files = [image["path"].rpartition("/")[2] for image in split.with_format("arrow")[:]["image"].to_pylist()]
    return {
        file: ([names[i] for i in row], [names[i] for i in others])
        for file, row, others in zip(files, split["labels"], unknown, strict=True)
    }


def by_file(splits) -> dict:
    """The labels and unknown labels of the images of all splits."""
    return {file: labels for split in splits.values() for file, labels in labels_by_file(split).items()}


def load_table(folder, text: str | bytes, name="metadata.csv", **options) -> list[set[str]]:
    """What a table of all images gives, in their order."""
    content = text if isinstance(text, bytes) else text.encode()
    (folder / name).write_bytes(content)
    splits = load_multilabel_dataset(folder, validation_share=0.5, **options)
    names = label_names(splits["train"])
    found = {
        image["path"].rpartition("/")[2]: {names[label] for label in labels}
        for split in splits.values()
        for image, labels in zip(split.with_format("arrow")[:]["image"].to_pylist(), split["labels"], strict=True)
    }
    return [found[file] for file in sorted(found)]
