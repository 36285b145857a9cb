"""CVAT's XML for images."""

import os
from pathlib import Path

from assocformer_hf.data.readers.files import image_file, read_xml, without_foreign_root
from assocformer_hf.data.readers.reader import Match, Reader, Splits
from assocformer_hf.data.readers.rows import divided_by_folder
from assocformer_hf.data.schema import DataError, LabelledImages


class CvatReader(Reader):
    """An export "CVAT for images 1.1": tags and the labels of shapes, by subset where there are any, else by folders
    of splits.

    The images are in `data_dir`, or in the folder of the file or `images` in it.
    """

    form = "cvat"
    looks_for = "annotations.xml of CVAT for images"

    def matches(self, source: Path) -> Match:
        path = _file(source)
        if path.suffix != ".xml" or not path.is_file():
            return Match.NO
        try:
            return Match.SURE if read_xml(path).tag == "annotations" else Match.NO
        except DataError:
            return Match.SURE if path != source else Match.NO

    def read(self, source: Path) -> Splits:
        path = _file(source)
        root = read_xml(path)
        declared = [label for label in root.iterfind("./meta//labels/label") if label.find("parent") is None]
        names = [name.strip() for label in declared if (name := label.findtext("name"))]  # not parts of a skeleton
        places = [self.data_dir] if self.data_dir else [path.parent / "images", path.parent]
        places = [place.resolve() for place in places if place.is_dir()]
        if not places:
            raise DataError(f"{self.data_dir}: no such folder; give the one that holds the images as data_dir")
        splits: dict[str | None, LabelledImages] = {}
        images = root.findall("image")
        given = [image.get("name", "") for image in images]
        names_in = [(place, without_foreign_root(given, place)) for place in places]
        names_in = [(place, local) for place, local in names_in if local is not given] or names_in
        for number, image in enumerate(images):
            subset = image.get("subset") or None
            candidates = [
                image_file(place, f"{parent}{local[number]}", str(path))
                for parent in ([f"{subset}/", ""] if subset and given[number] else [""])
                for place, local in names_in
            ]
            labels = dict.fromkeys(shape.get("label").strip() for shape in image if shape.get("label"))
            found = splits.setdefault(subset, LabelledImages(str(path), names=names or None))
            found.add(next((path for path in candidates if os.path.isfile(path)), candidates[0]), labels)
        if not splits:
            raise DataError(f"{path}: no images")
        place, local = names_in[0]
        if local is not given:
            for found in splits.values():
                found.notes.append(f"paths of another machine are read below {place}, such as {local[0]}")
        if len(splits) == 1 and None in splits:
            splits = divided_by_folder(splits[None])
        return {subset: lambda found=found: found for subset, found in splits.items()}


def _file(source: Path) -> Path:
    """The XML file: the path itself, or `annotations.xml` in the folder."""
    return source if source.is_file() else source / "annotations.xml"
