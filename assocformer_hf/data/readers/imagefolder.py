"""A folder of images for each label."""

import os
from dataclasses import replace
from pathlib import Path

from assocformer_hf.data.identity import first_copies
from assocformer_hf.data.images.decoding import ImageError, open_image
from assocformer_hf.data.readers.files import holds_images, image_files, is_image_name, is_visible, refuse_unlisted
from assocformer_hf.data.readers.reader import Match, Reader, Splits
from assocformer_hf.data.schema import DataError, LabelledImages
from assocformer_hf.data.split_names import split_of
from assocformer_hf.wording import counted

# Folders that other forms put their files in; they are no labels.
NO_LABELS = frozenset(("images", "imgs", "labels", "masks", "annotations", "jpegimages", "imagesets", "__macosx"))


class ImageFolderReader(Reader):
    """A folder of images for each label, such as `cat/1.jpg`, or below folders of splits, `train/cat/1.jpg`.

    It is read so where no other form fits. Each image has the label of its folder, and those of the folders that a copy
    of it lies in.
    """

    form = "imagefolder"
    looks_for = "a folder of images for each of two labels or more"

    def matches(self, source: Path) -> Match:
        if not source.is_dir():
            return Match.NO
        labels = {name for folders in _splits(source).values() for name in folders}
        return Match.MAYBE if len(labels) > 1 and not {name.lower() for name in labels} & NO_LABELS else Match.NO

    def read(self, source: Path) -> Splits:
        splits: Splits = {}
        by_split = _splits(source)
        self._note_other_files(source, [source / split for split in by_split if split is not None])
        for split, folders in by_split.items():
            if folders:
                splits[split] = lambda folders=folders: _read_folders(source, folders)
            else:
                self.left_out[str(source / split)] = "images without folders of labels"
        if None not in splits:  # beside folders of labels they are an error
            self.left_out |= dict.fromkeys(map(str, _loose(source)), "beside the folders of splits")
        if not splits:
            raise DataError(f"{source}: no folders of images")
        return splits

    def _note_other_files(self, source: Path, splits: list[Path]):
        """Notes the files in folders of labels, or beside these in folders, that are no images.

        Args:
            source: the folder of the dataset.
            splits: those of its folders that are splits.

        Raises:
            DataError: if a file without an ending is an image.
        """
        inside = [folder for parent in (source, *splits) for folder in _visible_folders(parent)]
        for folder in (folder for folder in inside if folder not in splits):
            others = _other_files(folder)
            if image := next((path for path in others if not path.suffix and _begins_as_image(path)), None):
                raise DataError(
                    f"{image}: an image whose name has no ending; rename it to {image.name}.jpg or the like"
                )
            if others:
                why = "no images" if holds_images(folder) else "a folder without images"
                shown = others[0].relative_to(folder)
                self.left_out[f"{counted(len(others), 'file')} in {folder}, such as {shown}"] = why


def _splits(source: Path) -> dict[str | None, dict[str, Path]]:
    """The folders of labels by split; none for a split whose images lie in none."""
    folders = _folders(source)
    if folders and all(map(split_of, folders)):
        return {split: _folders(folder) for split, folder in folders.items()}
    return {None: folders} if folders else {}


def _folders(parent: Path) -> dict[str, Path]:
    """The folders in a folder that hold images, or folders that do, by name."""
    return {path.name: path for path in _visible_folders(parent) if holds_images(path)}


def _visible_folders(parent: Path) -> list[Path]:
    return [path for path in sorted(parent.iterdir()) if is_visible(path.name) and path.is_dir()]


def _other_files(folder: Path) -> list[Path]:
    """The files in a folder and those below it that are not called as images are, hidden ones aside."""
    found = []
    for parent, folders, names in os.walk(folder, onerror=refuse_unlisted):
        folders[:] = sorted(filter(is_visible, folders))
        found += [Path(parent, name) for name in sorted(names) if name[0] != "." and not is_image_name(name)]
    return found


def _begins_as_image(path: Path) -> bool:
    try:
        open_image(path).close()
    except ImageError:
        return False
    return True


def _loose(folder: Path) -> list[Path]:
    """The images in a folder, those of the folders in it aside."""
    return [path for path in sorted(folder.iterdir()) if path.is_file() and is_image_name(path.name)]


def _read_folders(source: Path, folders: dict[str, Path]) -> LabelledImages:
    found = LabelledImages(str(source))
    if splits := [name for name in folders if split_of(name)]:
        other = next((name for name in folders if not split_of(name)), splits[0])
        raise DataError(
            f"{source}: are {splits[0]} and {other} labels or splits? Rename the folder of a label that is called as a "
            "split, or give a table; of splits, put each picture into a folder of its label in them"
        )
    if loose := [image for parent in {folder.parent for folder in folders.values()} for image in _loose(parent)]:
        raise DataError(f"{loose[0]}: beside the folders of labels; move it into one")
    for name, folder in folders.items():
        for image in image_files(folder):
            if os.path.dirname(image) != str(folder):
                inner = os.path.basename(os.path.dirname(image))
                raise DataError(
                    f"{image}: is its label {name} or {inner}? Put it straight into the folder of its label"
                )
            found.add(os.path.abspath(image), [name])
    return _with_labels_of_copies(found)


def _with_labels_of_copies(found: LabelledImages) -> LabelledImages:
    """The same images, where one that lies in the folders of several labels is one with all of them."""
    labels_of = dict(zip(found.images, found.labels, strict=True))
    copies_of: dict[str, list[str]] = {}
    for copy, first in first_copies(found.images).items():
        copies_of.setdefault(first, []).append(copy)
    joined = twice = 0
    for first, copies in copies_of.items():
        labels = [label for image in (first, *copies) for label in labels_of[image]]
        if len(set(labels)) == 1:
            continue
        labels_of[first] = list(dict.fromkeys(labels))
        for copy in copies:
            del labels_of[copy]
        found.left_out |= dict.fromkeys(copies, "copies, whose labels their first one has")
        joined += 1
        twice += len(labels) > len(set(labels))
    if joined:
        note = f"{counted(joined, 'image')} with the labels of all the folders that a copy lies in"
        found.notes.append(note + (f", {twice} of them more than once in one" if twice else ""))
    return replace(found, images=[*labels_of], labels=[*labels_of.values()], unknown=[[] for _ in labels_of])
