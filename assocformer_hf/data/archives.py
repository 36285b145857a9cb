"""The official archives of VOC 2007 and COCO 2014: downloaded, verified and unpacked, going on where it stopped."""

import filecmp
import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torchvision.datasets.utils import calculate_md5
from torchvision.datasets.voc import DATASET_YEAR_DICT as VOC

from assocformer_hf.data.schema import DataError
from assocformer_hf.progress import progress_bar

COCO = "http://images.cocodataset.org"
BLOCK = 1 << 20


@dataclass(frozen=True)
class Archive:
    """A file to download.

    Attributes:
        url: where it is.
        md5: its official checksum, where there is one.
    """

    url: str
    md5: str | None = None


# By name, the dataset's name for `load_multilabel_dataset` and its archives. COCO publishes no checksums: for its ZIP
# files the length and the checksums of the files inside have to do.
OFFICIAL = {
    "voc2007": ("voc", [Archive(VOC[key]["url"], VOC[key]["md5"]) for key in ("2007", "2007-test")]),
    "coco2014": (
        "coco",
        [
            Archive(f"{COCO}/annotations/annotations_trainval2014.zip"),
            Archive(f"{COCO}/zips/val2014.zip"),
            Archive(f"{COCO}/zips/train2014.zip"),
        ],
    ),
}


def fetch(archives: Sequence[Archive], folder: str | Path, mirror: str | None = None) -> None:
    """Downloads archives and unpacks them into a folder; what is done already is not done again.

    Args:
        archives: tar or ZIP files.
        folder: the folder; made where it is missing.
        mirror: a URL in whose folder the archives lie by their names, to take them from there.

    Raises:
        DataError: if an archive cannot be downloaded, is not what its checksum says, or has a file that lies in the
            folder with other content, which is kept.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for archive in archives:
        name = archive.url.rpartition("/")[2]
        done = folder / f".{name}.unpacked"
        if not done.exists():
            url = f"{mirror.rstrip('/')}/{name}" if mirror else archive.url
            file = download(Archive(url, archive.md5), folder / name)
            _unpack(file, folder)
            done.touch()


def download(archive: Archive, target: Path) -> Path:
    """Downloads a file that is not there yet, going on with what an earlier attempt left in `NAME.part`.

    Returns:
        The file, whose checksum, if it has one, is right, and whose length, if it was downloaded.

    Raises:
        DataError: if it cannot be downloaded, or is not what its checksum says.
    """
    if target.exists():
        if archive.md5 and (found := calculate_md5(target)) != archive.md5:
            raise DataError(
                f"{target}: its MD5 sum is {found}, not the official {archive.md5}; remove or rename it to download it"
            )
        return target
    part = target.with_name(f"{target.name}.part")
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(archive.url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            goes_on = response.status == 206
            length, start = response.headers.get("Content-Length"), have if goes_on else 0
            _save(response, part, start, None if length is None else start + int(length))
    except urllib.error.HTTPError as error:
        if error.code != 416:  # all of it is there
            raise DataError(f"{archive.url}: {error.code} {error.reason}") from error
    except OSError as error:
        raise DataError(f"{archive.url}: the download broke off ({error}); start again to go on with it") from error
    if archive.md5 and (found := calculate_md5(part)) != archive.md5:
        part.unlink()
        raise DataError(f"{archive.url}: its MD5 sum is {found}, not the official {archive.md5}; download it again")
    return part.rename(target)


def _save(response, part: Path, have: int, expected: int | None):
    bar = progress_bar(total=expected, initial=have, unit="B", unit_scale=True, desc=part.stem)
    with part.open("ab" if have else "wb") as file, bar:
        while block := response.read(BLOCK):
            file.write(block)
            bar.update(len(block))
    if expected is not None and part.stat().st_size != expected:
        raise OSError(f"{part.stat().st_size} of {expected} bytes")


def _unpack(file: Path, folder: Path):
    """Unpacks an archive where nothing is in its way: a file with other content may have been corrected by hand."""
    aside = folder / f".{file.name}.unpacking"
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                archive.extractall(aside)  # verifies the checksum of each file
        else:
            with tarfile.open(file) as archive:
                # As an attribute: the parameter is not known to the first releases of Python 3.10 and 3.11.
                archive.extraction_filter = getattr(tarfile, "data_filter", None)
                archive.extractall(aside)
    except (zipfile.BadZipFile, tarfile.TarError, OSError) as error:
        raise DataError(f"{file}: cannot be unpacked ({error}); remove it to download it again") from error
    place_of = {path: folder / path.relative_to(aside) for path in sorted(aside.rglob("*")) if not path.is_dir()}
    there = {path: place for path, place in place_of.items() if place.exists()}
    if differing := [place for path, place in there.items() if not filecmp.cmp(path, place, shallow=False)]:
        shutil.rmtree(aside)
        more = f", as are {len(differing) - 1} more" if len(differing) > 1 else ""
        raise DataError(
            f"{differing[0]}: is there, and not as in {file.name}{more}; nothing was replaced: move it away, or, to "
            "keep it, read the folder as the dataset voc or coco, which unpacks nothing"
        )
    for path, place in place_of.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, place)
    shutil.rmtree(aside)
