"""A folder of somebody else's: what the package wrote is replaced, all else stays."""

import os
import resource
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assocformer_hf.output_folder import OutputError, OutputFolder, refuse_file, write_file
from tests import forked


def write(folder: Path, files: dict[str, str]):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and ".assocformer" not in path.parts
    }


def replace(folder: OutputFolder, group: str, files: dict[str, str]):
    with folder.replacing(group) as aside:
        write(aside, files)


NAMES = st.sampled_from(["README.md", "a.json", "b/c.txt", "b/d.txt", "model.bin"])
FILES = st.dictionaries(NAMES, st.text("xyz", max_size=3), max_size=4)


@settings(max_examples=60, deadline=None)
@given(theirs=FILES, jobs=st.lists(st.tuples(st.sampled_from(["model", "report"]), FILES, FILES), max_size=4))
def test_files_of_others_stay_and_own_ones_are_replaced(tmp_path_factory, theirs, jobs):
    """A model of the folder is kept beside it: whose each file is, and what it holds."""
    folder = tmp_path_factory.mktemp("folder")
    write(folder, theirs)
    now = dict(theirs)
    written: dict[str, tuple[str, list[str]]] = {}  # group, and the contents of the package's last two versions
    for group, files, edits in jobs:
        write(folder, edits)
        now |= edits
        foreign = {name for name in now if now[name] not in written.get(name, (None, []))[1]}
        of_others = {name for name, (of, _) in written.items() if of != group} - foreign
        if in_the_way := set(files) & foreign or set(files) & of_others:
            with pytest.raises(OutputError) as caught:
                replace(OutputFolder(folder), group, files)
            assert all(name in str(caught.value) for name in in_the_way)
        else:
            replace(OutputFolder(folder), group, files)
            stale = {name for name, (of, _) in written.items() if of == group and name not in files}
            now = {name: content for name, content in now.items() if name not in stale or name in foreign} | files
            written = {name: entry for name, entry in written.items() if name not in stale}
            for name, content in files.items():
                written[name] = group, [*written.get(name, (None, []))[1][-1:], content]
        assert contents(folder) == now
    assert OutputFolder(folder).owned() == sorted(written)


def test_with_overwrite_files_of_the_same_name_are_replaced_and_no_others(tmp_path):
    write(tmp_path, {"README.md": "mine", "thesis.txt": "mine"})
    with pytest.raises(OutputError, match=r"holds README.md, which this package did not write .* --overwrite"):
        replace(OutputFolder(tmp_path, overwrite=False), "model", {"README.md": "card"})
    with pytest.raises(OutputError, match=r"did not write .*; move it away or choose another folder"):
        replace(OutputFolder(tmp_path), "model", {"README.md": "card"})  # of a job that has no such option
    replace(OutputFolder(tmp_path, overwrite=True), "model", {"README.md": "card"})
    assert contents(tmp_path) == {"README.md": "card", "thesis.txt": "mine"}


def test_no_output_takes_the_files_of_another(tmp_path):
    replace(OutputFolder(tmp_path), "model", {"README.md": "card", "metrics.json": "{}"})
    with pytest.raises(OutputError, match=r"holds README.md, written there as part of another output \(model\)"):
        replace(OutputFolder(tmp_path), "space", {"README.md": "of the Space", "app.py": ""})
    for attempt in (refuse_file, lambda path: write_file(path, lambda aside: aside.write_text("[]"))):
        with pytest.raises(OutputError, match="holds metrics.json, written there as part of another output"):
            attempt(tmp_path / "metrics.json")
    replace(OutputFolder(tmp_path), "samples", {"README.md": "card with samples"})  # a part of the model itself
    assert contents(tmp_path) == {"README.md": "card with samples", "metrics.json": "{}"}


def test_a_folder_is_no_file_to_be_replaced(tmp_path):
    (tmp_path / "tags.csv").mkdir()
    write(tmp_path / "tags.csv", {"thesis.txt": "mine"})
    for overwrite in (None, False, True):
        with pytest.raises(OutputError, match=r"tags.csv: is a folder, where a file is to be written; move it away"):
            refuse_file(tmp_path / "tags.csv", overwrite)
    assert contents(tmp_path / "tags.csv") == {"thesis.txt": "mine"}


@pytest.mark.parametrize("path", ["", ".", "deep/er", "link", os.fsdecode(b"caf\xe9")])
def test_folders_of_all_kinds(tmp_path, monkeypatch, path):
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to("target")
    write(tmp_path, {"thesis.txt": "mine", "target/photo.jpg": "mine"})
    monkeypatch.chdir(tmp_path)
    folder = OutputFolder(path)
    for content in ("first", "second"):
        replace(folder, "model", {"config.json": content})
    assert (tmp_path / path / "config.json").read_text() == "second"
    assert (tmp_path / "thesis.txt").read_text() == (tmp_path / "target/photo.jpg").read_text() == "mine"
    str(folder).encode()  # can be printed and written


def test_a_folder_is_made_when_something_is_written_and_its_files_are_for_all_who_may_read(tmp_path):
    folder = OutputFolder(tmp_path / "later")
    assert folder.owned() == []
    assert not folder.path.exists()
    with folder.replacing("model") as aside:
        (aside / "config.json").write_text("{}")
        (aside / "weights").write_text("secret")
        (aside / "weights").chmod(0o600)
    assert (folder.path / "weights").stat().st_mode == (folder.path / "config.json").stat().st_mode


def test_what_a_killed_job_left_is_cleared_and_its_files_are_known(tmp_path):
    folder = OutputFolder(tmp_path)
    replace(folder, "model", {"config.json": "first", "weights": "first"})
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from assocformer_hf.output_folder import OutputFolder\n"
        "original = Path.replace\n"
        "def killed(self, target):\n"
        "    original(self, target)\n"
        "    if Path(target).name == 'config.json': os._exit(9)\n"
        "Path.replace = killed\n"
        "with OutputFolder(sys.argv[1]).replacing('model') as aside:\n"
        "    for name in ('config.json', 'weights'): (aside / name).write_text('second')\n"
    )
    assert forked.run([sys.executable, "-c", script, str(tmp_path)]).returncode == 9
    assert contents(tmp_path) == {"config.json": "second", "weights": "first"}
    assert list((tmp_path / ".assocformer").glob("unfinished-*"))
    replace(folder, "model", {"config.json": "third", "weights": "third"})
    assert contents(tmp_path) == {"config.json": "third", "weights": "third"}
    assert not list((tmp_path / ".assocformer").glob("unfinished-*"))


@contextmanager
def busy(folder):
    """While another process is at work in a folder."""
    script = (
        "import signal, sys\n"
        "from pathlib import Path\n"
        "from assocformer_hf.output_folder import OutputFolder\n"
        "with OutputFolder(sys.argv[1]).locked():\n"
        "    Path(sys.argv[2]).touch(); signal.pause()\n"
    )
    entered = folder.with_name("entered")
    other = forked.start([sys.executable, "-c", script, str(folder), str(entered)])
    while not entered.exists():
        assert other.poll() is None, other.communicate()
        time.sleep(0.005)
    yield
    other.send_signal(signal.SIGTERM)
    other.communicate(timeout=60)


def test_one_job_at_a_time(tmp_path):
    ours = OutputFolder(tmp_path / "folder")
    at_work = pytest.raises(OutputError, match="another job is at work here")
    with busy(tmp_path / "folder"), at_work, ours.locked(wait=0.1):
        pass
    folder = OutputFolder(tmp_path / "folder")
    with folder.locked(), OutputFolder(tmp_path / "folder").locked(wait=0):  # the same job may enter again
        replace(folder, "model", {"a": "1"})


def test_a_full_disk_changes_nothing(tmp_path):
    folder = OutputFolder(tmp_path)
    replace(folder, "model", {"weights": "good"})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(OutputError, match="cannot be written .*File too large"):
            replace(folder, "model", {"weights": "x" * 20_000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert contents(tmp_path) == {"weights": "good"}
    assert not list((tmp_path / ".assocformer").glob("unfinished-*"))


def test_one_file(tmp_path):
    path = tmp_path / "new/metrics.json"
    for content in ("1", "2"):
        write_file(path, lambda aside, content=content: aside.write_text(content))
    assert path.read_text() == "2"
    path.write_text("edited")
    with pytest.raises(OutputError, match="holds metrics.json"):
        write_file(path, lambda aside: aside.write_text("3"))
    assert path.read_text() == "edited"


def test_only_unchanged_own_files_are_removed(tmp_path):
    folder = OutputFolder(tmp_path)
    replace(folder, "logs", {"logs/a": "1", "logs/b": "1", "other/c": "1"})
    write(tmp_path, {"logs/b": "edited", "logs/mine": "mine"})
    folder.remove(folder.owned("logs"))
    assert contents(tmp_path) == {"logs/b": "edited", "logs/mine": "mine"}
    assert not (tmp_path / "other").exists()
    assert folder.owned() == []


def test_a_damaged_list_is_named(tmp_path):
    folder = OutputFolder(tmp_path)
    replace(folder, "model", {"a": "1"})
    (tmp_path / ".assocformer/manifest.json").write_text("{")
    with pytest.raises(OutputError, match="manifest.json: cannot be read as the list of what was written here"):
        replace(folder, "model", {"a": "2"})
    assert contents(tmp_path) == {"a": "1"}


def test_an_edited_file_of_somebody_elses_stays_theirs(tmp_path):
    """As a card that its user rewrote, and publishing then gives a name."""
    folder = OutputFolder(tmp_path)
    replace(folder, "model", {"README.md": "ours", "config.json": "ours"})
    (tmp_path / "README.md").write_text("theirs")
    folder.edit("README.md", lambda path: path.write_text("theirs, with a name"))
    with pytest.raises(OutputError, match="holds README.md, which this package did not write or which changed since"):
        replace(folder, "model", {"README.md": "ours again"})
    assert (tmp_path / "README.md").read_text() == "theirs, with a name"
    folder.edit("config.json", lambda path: path.write_text("ours, edited"))
    folder.refuse_foreign(["config.json"], "model")


def test_a_file_into_a_folder_at_work_is_refused_before_the_work_and_kept_after_it(tmp_path):
    with busy(tmp_path / "folder"):
        with pytest.raises(OutputError, match="another job is at work here"):
            refuse_file(tmp_path / "folder/tags.csv", wait=0.1)
        with pytest.raises(OutputError, match="what was to be written is kept in .*tags.csv") as refused:
            write_file(tmp_path / "folder/tags.csv", lambda path: path.write_text("cat"), wait=0.1)
    assert Path(str(refused.value).rpartition(" ")[2]).read_text() == "cat"
    assert not (tmp_path / "folder/tags.csv").exists()
