"""MIRFLICKR-25000 as a folder that the benchmarks read, made of the two archives of the collection, unpacked.

`python -m benchmarks.mirflickr --images mirflickr --annotations mirflickr25k_annotations_v080 --output MIRFLICKR`
"""

import argparse
import csv
from collections import defaultdict
from pathlib import Path

from PIL import ImageOps

from assocformer_hf.data.images.decoding import decode_image
from assocformer_hf.progress import progress_bar

LAST = {"train": 15_000, "validation": 20_000, "test": 25_000}  # photograph of each split, by its number
SIDE = 128  # pixels
SALIENT = "_r1"  # ends the names of the files of what an image is mostly about; they are not used


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="folder of im1.jpg to im25000.jpg")
    parser.add_argument("--annotations", type=Path, required=True, help="folder of clouds.txt and such")
    parser.add_argument("--output", type=Path, required=True, help="folder to write; must not be there")
    options = parser.parse_args()
    try:
        photographs = write_mirflickr(options.images, options.annotations, options.output)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(f"{photographs} photographs: {options.output}")


def write_mirflickr(images: Path, annotations: Path, output: Path) -> int:
    """Writes the photographs, shrunk to squares of their middle, and `metadata.csv`; the number of photographs.

    Args:
        images: folder of `im1.jpg`, `im2.jpg` and so on.
        annotations: folder with a file for each topic, `clouds.txt`, whose lines are the numbers of its photographs.
        output: the folder, which must not be there; with the splits as folders.

    Raises:
        FileExistsError: if the output is there.
        ValueError: if there are no photographs or no topics, or a topic names a photograph that is not there.
    """
    topics_of = read_topics(annotations)
    numbers = sorted(int(file.stem.removeprefix("im")) for file in images.glob("im*.jpg"))
    if not numbers:
        raise ValueError(f"{images}: no photographs im1.jpg and such")
    if missing := sorted(topics_of.keys() - numbers):
        raise ValueError(f"{images}: no im{missing[0]}.jpg, which {topics_of[missing[0]][0]}.txt names")
    output.mkdir(parents=True)
    rows = []
    for number in progress_bar(numbers, unit="photographs"):
        split = next(name for name, last in LAST.items() if number <= last)
        square = ImageOps.fit(decode_image(images / f"im{number}.jpg"), (SIDE, SIDE))
        path = output / split / f"im{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        square.save(path, quality=90)
        rows.append([f"{split}/{path.name}", "|".join(topics_of.get(number, [])), split])
    with open(output / "metadata.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["file_name", "labels", "split"], *rows])
    return len(numbers)


def read_topics(annotations: Path) -> dict[int, list[str]]:
    """The topics of each photograph that has any, in alphabetical order.

    Raises:
        ValueError: if there are none, or a line is no number.
    """
    topics_of: dict[int, list[str]] = defaultdict(list)
    for file in sorted(annotations.glob("*.txt")):
        if file.stem.lower() == "readme" or file.stem.endswith(SALIENT):
            continue
        for line in file.read_text(encoding="utf-8").split():
            if not line.isdecimal():
                raise ValueError(f"{file}: {line!r} is not the number of a photograph")
            topics_of[int(line)].append(file.stem)
    if not topics_of:
        raise ValueError(f"{annotations}: no files of topics, such as clouds.txt")
    return dict(topics_of)


if __name__ == "__main__":
    main()
