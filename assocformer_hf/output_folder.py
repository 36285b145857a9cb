"""Folders that the package writes into: it replaces what it wrote there before, and touches nothing else.

A folder that was written to has a hidden folder `.assocformer` with a lock, files that are not finished yet, and
`manifest.json`, the list of what the package wrote, and as what: a model, a report. A file that is not in the list, or
that was changed since, belongs to somebody else; one of another kind of output is as little replaced.
"""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from assocformer_hf.wording import one_line, shown, some

HIDDEN = ".assocformer"
MANIFEST = f"{HIDDEN}/manifest.json"
FORMAT = "assocformer output 1"
FILE = "file"  # the group of a file that a command was told to write
WRITE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
# Groups of files that make up a trained model, and may take each other's place.
MODEL = {"model", "run", "samples"}
TORCH_WRITER = ("PytorchStreamWriter", "inline_container")  # how errors of torch's writer name it
LOCK_SECONDS = 10  # the loader's workers outlive a killed run, and with it the lock, by up to five seconds


class OutputError(ValueError):
    """A folder that cannot be written to without loss; the message names the files, and the way out."""


class OutputFolder:
    """A folder to write into, made where it is missing once something is written.

    Args:
        path: the folder; `""` and `"."` are the working directory.
        overwrite: whether files of others may be replaced by files of the same name; None where that is no option of
            the job, and so no advice either.

    Attributes:
        path: the folder, absolute, with symbolic links followed.

    """

    def __init__(self, path: str | Path, overwrite: bool | None = None):
        self.overwrite = overwrite
        self.path = Path(path).resolve()
        # One object for each lock file of a process, so that a job can enter its folder again.
        self._lock = FileLock(self.path / HIDDEN / "lock", is_singleton=True)

    def __str__(self) -> str:
        return shown(self.path)

    @contextmanager
    def locked(self, wait: float = LOCK_SECONDS) -> Iterator["OutputFolder"]:
        """Keeps other jobs out of the folder, those too whose launcher was killed; a job may enter again.

        Args:
            wait: seconds until the folder has to be free.

        Raises:
            OutputError: if another job is at work there, or the folder cannot be made.
        """
        self.make()
        try:
            self._lock.acquire(timeout=wait)
        except Timeout as error:
            raise OutputError(f"{self}: another job is at work here; wait for it, or choose another folder") from error
        try:
            if self._lock.lock_counter == 1:
                self._clear_unfinished()
            yield self
        finally:
            self._lock.release()

    def owned(self, group: str | None = None) -> list[str]:
        """The files that the package wrote here, relative to the folder, sorted; of one group, or of all."""
        entries = self._entries()
        return sorted(name for name, entry in entries.items() if group in (None, entry["group"]))

    def unchanged(self, names: Iterable[str]) -> list[str]:
        """Those of the files that are still as the package wrote them here."""
        entries = self._entries()
        return [name for name in names if name in entries and not self._is_foreign(name, entries)]

    def refuse_foreign(self, names: Iterable[str], group: str) -> None:
        """Says now which files could not be written later.

        Args:
            names: of the files, relative to the folder.
            group: what they are to be, see `replacing`.

        Raises:
            OutputError: if files of these names are there that the package did not write, that were changed since, or
                that are part of another output.
        """
        if self.overwrite:
            return
        entries, names = self._entries(), list(names)
        foreign = [name for name in names if self._is_foreign(name, entries)]
        if foreign:
            ways = f"move {'it' if len(foreign) == 1 else 'them'} away"
            ways += ", allow replacing with --overwrite," if self.overwrite is not None else ""
            raise OutputError(
                f"{self}: holds {some(foreign, 8)}, which this package did not write or which changed since; {ways} "
                "or choose another folder"
            )
        others = {name: entries[name]["group"] for name in names if os.path.lexists(self.path / name)}
        taken = [name for name, owner in others.items() if owner != group and not {owner, group} <= MODEL]
        if taken:
            raise OutputError(
                f"{self}: holds {some(taken, 8)}, written there as part of another output ({others[taken[0]]}); choose "
                "another folder or name"
            )

    @contextmanager
    def replacing(self, group: str) -> Iterator[Path]:
        """A new folder to write files in; once all are written, they take the place of the group's earlier files.

        Args:
            group: what the files are together, such as `"model"`.

        Raises:
            OutputError: if a file of somebody else has one of the names, or something cannot be written, as on a full
                disk; nothing is replaced then.
        """
        with self.locked(), self.unfinished() as aside:
            # With the folder's own name, which ends up in what is written.
            content = aside / (self.path.name or "output")
            content.mkdir()
            yield content
            readable = content.stat().st_mode & 0o666
            for path in content.rglob("*"):
                if path.is_file() and not path.is_symlink():
                    path.chmod(readable)  # safetensors leaves its files to their owner alone
            sync_tree(content)
            names = [path.relative_to(content).as_posix() for path in sorted(content.rglob("*")) if path.is_file()]
            self.refuse_foreign(names, group)
            entries = self._entries()
            stale = [name for name, entry in entries.items() if entry["group"] == group and name not in names]
            # Listed before they are moved: a job that is killed in between leaves nothing that looks like another's.
            written = {name: {"group": group} | fingerprint(content / name) for name in names}
            before = {name: entries[name]["sha256"] for name in names if name in entries}
            for name, digest in before.items():
                written[name]["replaces"] = digest
            self._write_entries(entries | written)
            for name in names:
                (self.path / name).parent.mkdir(parents=True, exist_ok=True)
                (content / name).replace(self.path / name)
            sync(self.path)
            for name in stale:
                self._remove(name, entries)
            self._write_entries({name: entry for name, entry in self._entries().items() if name not in stale})

    def write(self, name: str, group: str, write: Callable[[Path], object]) -> None:
        """Writes one file aside and puts it in its place.

        Args:
            name: of the file, relative to the folder.
            group: see `replacing`.
            write: is given the path to write to, which has the same suffix.

        Raises:
            OutputError: if somebody else has a file of that name.
        """
        self.refuse_foreign([name], group)
        self._write(name, group, write)

    def edit(self, name: str, write: Callable[[Path], object]) -> None:
        """Writes a changed version of a file that is there; somebody else's stays theirs. See `write`."""
        entries = self._entries()
        own = name in entries and not self._is_foreign(name, entries)
        self._write(name, entries[name]["group"] if own else None, write)

    def _write(self, name: str, group: str | None, write: Callable[[Path], object]):
        with self.unfinished() as aside:
            file = aside / Path(name).name
            write(file)
            sync(file)
            if group is not None:
                entry = {"group": group} | fingerprint(file)
                entries = self._entries()
                if name in entries:
                    entry["replaces"] = entries[name]["sha256"]
                self._write_entries(entries | {name: entry})
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            file.replace(self.path / name)
            sync((self.path / name).parent)

    def add(self, group: str, names: Iterable[str]) -> None:
        """Lists files that a library wrote here on the package's behalf, such as a tracker's."""
        added = {name: {"group": group} | fingerprint(self.path / name) for name in names}
        self._write_entries(self._entries() | added)

    def remove(self, names: Iterable[str]) -> None:
        """Removes files that the package wrote, and the folders that they leave empty; changed ones stay."""
        names = list(names)
        entries = self._entries()
        for name in names:
            self._remove(name, entries)
        self._write_entries({name: entry for name, entry in entries.items() if name not in names})

    @contextmanager
    def unfinished(self) -> Iterator[Path]:
        """A new hidden folder on the same disk, which is removed at the end.

        Raises:
            OutputError: if something cannot be written there, as on a full disk.
        """
        self.make()
        aside = None
        try:
            aside = Path(tempfile.mkdtemp(prefix="unfinished-", dir=self.path / HIDDEN))
            yield aside
        except (OSError, RuntimeError, SafetensorError) as error:
            if not _is_write_error(error):
                raise
            raise OutputError(
                f"{self}: cannot be written ({one_line(error)}); what was there before is left as it was: "
                "make room, or choose another folder"
            ) from error
        finally:
            if aside is not None:
                shutil.rmtree(aside, ignore_errors=True)

    def make(self) -> None:
        """Makes the folder, and in it that of the lock.

        Raises:
            OutputError: if it cannot be written to.
        """
        try:
            (self.path / HIDDEN).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{self}: cannot be written to ({error.strerror}); choose another folder") from error

    def _clear_unfinished(self):
        """Removes what a killed job left; the folder's lock is held, and these are the package's own folders."""
        for left in (self.path / HIDDEN).glob("unfinished-*"):
            shutil.rmtree(left, ignore_errors=True)

    def _is_foreign(self, name: str, entries: dict[str, dict]) -> bool:
        path = self.path / name
        if not os.path.lexists(path):
            return False
        if name not in entries or path.is_symlink() or not path.is_file():
            return True
        entry = entries[name]
        if path.stat().st_size == entry["size"] and fingerprint(path)["sha256"] == entry["sha256"]:
            return False
        return fingerprint(path)["sha256"] != entry.get("replaces")

    def _remove(self, name: str, entries: dict[str, dict]):
        if name not in entries or self._is_foreign(name, entries):
            return
        path = self.path / name
        path.unlink(missing_ok=True)
        for parent in path.parents:
            if parent == self.path or not parent.is_dir() or any(parent.iterdir()):
                return
            parent.rmdir()

    def _entries(self) -> dict[str, dict]:
        """The manifest: group, size and digest of each file, by its name."""
        file = self.path / MANIFEST
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise ValueError(f"its format is {content['format']!r}, not {FORMAT!r}")
            return content["files"]
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OutputError(
                f"{shown(file)}: cannot be read as the list of what was written here ({error}); remove it, and with it "
                "the claim to these files"
            ) from error

    def _write_entries(self, entries: dict[str, dict]):
        content = json.dumps({"format": FORMAT, "files": entries}, indent=1, sort_keys=True)
        with self.unfinished() as aside:
            file = aside / "manifest.json"
            file.write_text(content, encoding="utf-8")
            sync(file)
            file.replace(self.path / MANIFEST)


def refuse_file(path: str | Path, overwrite: bool | None = None, wait: float = LOCK_SECONDS) -> None:
    """Says now, before the work for it, if a file could not be written: see `write_file`.

    Raises:
        OutputError: if there is a folder of that name, or somebody else's file, its folder cannot be written to, or
            another job is at work there.
    """
    path = Path(path)
    if path.is_dir():
        raise OutputError(
            f"{shown(path)}: is a folder, where a file is to be written; move it away or give another name"
        )
    with OutputFolder(path.parent, overwrite).locked(wait) as folder:
        folder.refuse_foreign([path.name], FILE)


def write_file(
    path: str | Path, write: Callable[[Path], object], overwrite: bool | None = None, wait: float = LOCK_SECONDS
) -> Path:
    """Writes one file, in place of one that the package wrote before: see `OutputFolder.write`.

    Returns:
        The file.

    Raises:
        OutputError: if it cannot be put in its place; it then lies in a temporary folder, which the message names.
    """
    path = Path(path)
    try:
        with OutputFolder(path.parent, overwrite).locked(wait) as folder:
            folder.write(path.name, FILE, write)
    except OutputError as error:
        kept = Path(tempfile.mkdtemp(prefix="assocformer-")) / path.name
        write(kept)
        raise OutputError(f"{error}; what was to be written is kept in {shown(kept)}") from error
    return path


def fingerprint(path: Path) -> dict:
    """Size in bytes and SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
        return {"size": file.tell(), "sha256": digest.hexdigest()}


def sync_tree(folder: Path) -> None:
    """Forces everything in a folder to the disk."""
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)


def sync(path: Path) -> None:
    """Forces a file or a folder to the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows opens files only
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_write_error(error: Exception) -> bool:
    """Whether it is the disk's; torch's writer raises RuntimeError, that of safetensors its own."""
    if isinstance(error, OSError):
        return error.errno in WRITE_ERRORS
    return isinstance(error, SafetensorError) or any(name in str(error) for name in TORCH_WRITER)
