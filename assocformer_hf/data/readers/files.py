"""Files of annotations and images: read with errors of one line that name them, found below a folder, and checked."""

import json
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import datasets
import yaml

from assocformer_hf.data.images.decoding import IMAGE_SUFFIXES, OR_SKIP, OTHER_SUFFIXES
from assocformer_hf.data.readers.options import BAD_IMAGES
from assocformer_hf.data.schema import DataError, LabelledImages
from assocformer_hf.option_values import require
from assocformer_hf.output_folder import OutputError, OutputFolder
from assocformer_hf.wording import one_line

OF_SYSTEM = ("lost+found", "System Volume Information", "$RECYCLE.BIN")  # folders that file systems have for themselves
LOOKED_AT = 100  # names that tell whether paths are of this machine


def read_text(path: Path) -> str:
    """A text file in UTF-8, with or without a byte order mark.

    Raises:
        DataError: if the file is missing or in another encoding.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not in UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, stripped, without empty ones."""
    return [line.strip() for line in read_text(path).split("\n") if line.strip()]


def read_json(path: Path) -> Any:
    """Parsed JSON.

    Raises:
        DataError: as [`read_text`], and if it is not valid JSON.
    """
    try:
        return json.loads(read_text(path))
    except ValueError as error:  # also for whole numbers of thousands of digits
        raise DataError(f"{path}: not valid JSON ({error}); write or download it again") from error
    except RecursionError as error:
        raise DataError(f"{path}: JSON that is nested too deeply") from error


class _TextLoader(yaml.BaseLoader):
    """Everything as text, as `no` and `1` are names of labels too; a key that is given twice is an error."""

    def construct_mapping(self, node, deep=False):
        found = super().construct_mapping(node, deep)
        if len(found) < len(node.value):
            raise yaml.constructor.ConstructorError(problem="a key is given twice", problem_mark=node.start_mark)
        return found


def read_yaml(path: Path) -> Any:
    """Parsed YAML, with all values as text.

    Raises:
        DataError: as [`read_text`], and if it is not valid YAML.
    """
    try:
        return yaml.load(read_text(path), _TextLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{path}: not valid YAML ({one_line(error)})") from error


def read_xml(path: Path) -> ElementTree.Element:
    """The root of parsed XML.

    Raises:
        DataError: if the file is missing or not valid XML.
    """
    try:
        return ElementTree.parse(path).getroot()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the last two for odd encodings
        raise DataError(f"{path}: not valid XML ({error}); write or download it again") from error


def image_files(folder: Path) -> list[str]:
    """The paths of the image files in a folder and those below it, by their endings, sorted, readable or not.

    Folders that are links are entered, each place once; hidden ones and those of the file system are not. Pictures that
    the package wrote there, such as explanations, are left out, but for a model's samples.

    Raises:
        DataError: if a folder cannot be listed.
    """
    return sorted(_image_files(folder))


def holds_images(folder: Path) -> bool:
    """Whether a folder has any of the [`image_files`]."""
    return any(True for _ in _image_files(folder))


def _image_files(folder: Path) -> Iterator[str]:
    seen, written = {os.path.realpath(folder)}, set()
    for parent, folders, names in os.walk(folder, onerror=refuse_unlisted, followlinks=True):
        written |= written_pictures(parent)
        visible = sorted(filter(is_visible, folders), reverse=True)
        places = {os.path.realpath(os.path.join(parent, name)): name for name in visible}
        folders[:] = sorted(name for place, name in places.items() if place not in seen)
        seen |= places.keys()
        found = [name for name in names if is_image_name(name)]
        readable = {stem for stem, suffix in map(os.path.splitext, found) if suffix.lower() in IMAGE_SUFFIXES}
        for name in found:
            stem, suffix = os.path.splitext(name)
            # A camera's raw file is not missed where its JPEG lies beside it.
            path = os.path.join(parent, name)
            if path not in written and (suffix.lower() in IMAGE_SUFFIXES or stem not in readable):
                yield path


def is_visible(name: str) -> bool:
    """Whether a folder of this name is neither hidden nor the file system's own."""
    return name[0] != "." and name not in OF_SYSTEM


def refuse_unlisted(error: OSError) -> None:
    """Raises DataError for a folder that cannot be listed; one that is not there has nothing."""
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise DataError(
            f"{error.filename}: cannot be listed ({error.strerror}), and may hold images: make it readable, or give "
            "the folders that are"
        ) from error


def written_pictures(folder: str) -> set[str]:
    """The pictures that the package wrote into a folder, as its list there says, a model's samples aside."""
    output = OutputFolder(folder)
    try:
        others = (name for name in output.owned() if not name.startswith("samples/"))
        names = output.unchanged(filter(is_image_name, others))
    except OutputError:  # a list that cannot be read claims nothing
        return set()
    return {os.path.join(folder, name) for name in names}


def is_image_name(name: str) -> bool:
    """Whether a file is called as images are."""
    suffix = os.path.splitext(name)[1].lower()
    return (suffix in IMAGE_SUFFIXES or suffix in OTHER_SUFFIXES) and not os.path.basename(name).startswith(".")


def image_file(folder: Path, name: str, origin: str) -> str:
    """The path of an image that a file of annotations names, which must not lead out of the folder.

    Args:
        folder: the folder that holds the images, absolute.
        name: the path in it; backslashes separate too where no file has them in its name.
        origin: what errors call the file that names it.

    Raises:
        DataError: if there is no name, or it leads out of the folder. Whether the file exists is not looked at:
            [`with_files`] does that for all.
    """
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise DataError(f"{origin}: an image without a file name")
    root = str(folder)
    path = os.path.normpath(name if os.path.isabs(name) else f"{root}{os.sep}{name}")
    if "\\" in name and not os.path.exists(path):
        path = os.path.normpath(os.path.join(root, name.replace("\\", "/")))
    if not _lies_in(root, path) and os.path.isabs(name):  # through a link to the folder, maybe
        path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    if not _lies_in(root, path):
        raise DataError(
            f"{origin}: {name} leads out of {folder}; give the folder that holds all the images as data_dir"
        )
    return path


def _lies_in(folder: str, path: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/\\") + os.sep)


def without_foreign_root(names: Sequence, root: Path) -> Sequence:
    """Absolute paths of another machine as paths in a folder, where they lie there from some part of them on.

    All of them lose the same beginning, so that different ones stay different. Others come back as they are.

    Args:
        names: the paths of files or folders, as a file of annotations gives them.
        root: the folder.
    """
    if not all(isinstance(name, str) and _is_absolute(name) for name in names):
        return names
    if not names or any(map(os.path.exists, names[:LOOKED_AT])):
        return names
    parts = [re.split(r"[\\/]+", name) for name in names]
    shared = os.path.commonprefix([one[:-1] for one in parts])
    for start in range(1, len(shared) + 1):
        tails = ["/".join(one[start:]) for one in parts]
        if any(os.path.exists(root / tail) for tail in tails[:LOOKED_AT]):
            return tails
    return names


def _is_absolute(name: str) -> bool:
    return name.startswith("/") or re.match(r"[A-Za-z]:[\\/]", name) is not None


def with_files(source: LabelledImages, bad_images: str = "error") -> LabelledImages:
    """The same images under the names that their files have.

    A file whose name differs from the given one in case, in spaces around it, or in how its letters are encoded (é is
    one sign or two; %20 is a space), is taken where there is no other such file, and that is noted. What then has no
    file is missing.

    Args:
        source: images as a reader found them.
        bad_images: `"error"` refuses missing files; `"skip"` keeps their names for what skips them when it reads them.

    Raises:
        DataError: naming the first missing file, and how many there are; also if all are missing.
    """
    require({"bad_images": bad_images}, one_of={"bad_images": BAD_IMAGES})
    if isinstance(source.images, datasets.Dataset):
        return source
    missing = missing_files(source.images)
    if not missing:
        return source
    file_of = _alike(missing, source.images)
    images, notes = [file_of.get(image, image) for image in source.images], list(source.notes)
    if file_of:
        name, file = next(iter(file_of.items()))
        notes.append(
            f"{len(file_of)} of {len(images)} files are called otherwise, in case, spaces or encoding, such as {file} "
            f"for {os.path.basename(name)}"
        )
        missing = missing_files(images)
    if missing and (bad_images == "error" or len(missing) == len(images)):
        others = f", with {len(missing) - 1} more of the {len(images)} images" if len(missing) > 1 else ""
        way = OR_SKIP if len(missing) < len(images) else ""
        if any(f"{scheme}:{os.sep}" in missing[0] for scheme in ("http", "https", "s3", "gs")):
            way = f"; URLs are not opened: download the images first{way}"
        here = next((image for image in images if image != missing[0] and _like(image) == _like(missing[0])), None)
        same = f" ({here} is listed too: are the two one image?)" if here else ""
        raise DataError(
            f"{missing[0]}: missing{same}{others}; complete what {source.origin} lists, or give the folder of "
            f"the images as data_dir{way}"
        )
    if missing:
        notes.append(f"missing: {len(missing)} of the {len(images)} images of {source.origin}, such as {missing[0]}")
    return replace(source, images=images, notes=notes)


def missing_files(paths: Sequence[str]) -> list[str]:
    """Those of the paths that are no files."""
    return [path for path in paths if not os.path.isfile(path)]


def _alike(missing: Sequence[str], images: Sequence[str]) -> dict[str, str]:
    """For missing paths the one file of their folder whose name is theirs but for case, spaces and encoding."""
    files_of: dict[str, dict[str, list[str]]] = {}
    for folder in {os.path.dirname(path) for path in missing}:
        files_of[folder] = defaultdict(list)
        if os.path.isdir(folder):
            for name in os.listdir(folder):
                files_of[folder][_folded(name)].append(os.path.join(folder, name))
    taken, found = set(images), {}
    for path in missing:
        name, here = os.path.basename(path), files_of[os.path.dirname(path)]
        files = here.get(_folded(name)) or here.get(_folded(unquote(name)), [])
        if len(files) == 1 and files[0] not in taken:
            found[path] = files[0]
    return found


def _like(path: str) -> tuple[str, str]:
    """What paths have in common whose names differ in case, spaces and encoding alone."""
    return os.path.dirname(path), _folded(os.path.basename(path))


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold().strip()
