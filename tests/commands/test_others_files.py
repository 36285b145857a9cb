"""Every verb in a folder full of other people's files, however the folder is called: only its own files change."""

import hashlib
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState, GradientState, PartialState

from assocformer_hf.commands.main import main
from assocformer_hf.data.scenes.scenes import load_scenes

OTHERS = {
    "thesis.txt": b"years of work",
    "photos/holiday.jpg": b"not even a picture",
    "checkpoints/step-1000/model.safetensors": b"of another program",
    "data/train-00000-of-00009.parquet": b"of another program",
    "logs/notes.log": b"monday",
    ".env": b"HF_TOKEN=hf_secret",
    "name-\udcff.txt": b"not UTF-8",
}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    """A small dataset of one's own: files and a table."""
    folder = tmp_path_factory.mktemp("photographs")
    dataset = load_scenes("train", size=24)
    names = dataset.features["labels"].feature.names
    lines = ["file_name,labels"]
    for i, example in enumerate(dataset):
        example["image"].convert("RGB").save(folder / f"{i}.jpg")
        lines.append(f"{i}.jpg,{'|'.join(names[label] for label in example['labels'])}")
    (folder / "metadata.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def model(photographs, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "model"
    run(*TRAIN, "--dataset", photographs, "--output", folder)
    return folder


TRAIN = (
    "train", "--config", "paper", "--backbone", "tiny-cvt", "--image_size", "64", "--epochs", "1", "--batch_size", "4",
    "--num_workers", "0", "--validation_share", "0.3", "--report_to", "none",
)  # fmt: skip


def run(*words: object):
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()
    main([str(word) for word in words])


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("kind", ["here", "not UTF-8"])  # `tests/test_output_folder.py` has folders of all kinds
def test_nothing_but_the_own_files_changes(kind, photographs, model, tmp_path, monkeypatch, capfd):
    home = tmp_path / ("home-\udcff" if kind == "not UTF-8" else "home")
    for name, content in OTHERS.items():
        file = home / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    monkeypatch.chdir(home if kind == "here" else tmp_path)
    place = "." if kind == "here" else home
    before, sources = digests(home), (digests(photographs), digests(model))

    read = ("--dataset", photographs, "--validation_share", "0.3")
    run(*TRAIN, "--dataset", photographs, "--output", place)
    assert (home / "model.safetensors").is_file()
    kept = digests(home)
    run("predict", "--model", model, "--images", photographs, "--output", f"{place}/tags", "--num_workers", "0")
    run("calibrate", "--model", model, *read, "--output", f"{place}/calibrated", "--num_workers", "0")
    run("evaluate", "--model", model, *read, "--report", f"{place}/report", "--num_workers", "0")
    run("space", "--model", model, "--output", f"{place}/space")
    run("prepare", *read, "--output", f"{place}/prepared")

    after = digests(home)
    assert {name: after.get(name) for name in kept} == kept
    assert {name: after.get(name) for name in before} == before
    assert (digests(photographs), digests(model)) == sources
    assert {path.name for path in tmp_path.iterdir()} == {home.name}


def test_checkpoints_of_another_program_are_refused_before_the_training(photographs, tmp_path, capfd):
    other = tmp_path / "checkpoints/epoch-0001/weights.bin"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"of another program")
    with pytest.raises(SystemExit) as stopped:
        run(*TRAIN, "--dataset", photographs, "--output", tmp_path)
    assert stopped.value.code == 2
    assert "checkpoints/epoch-0001: is in the way" in capfd.readouterr().err
    assert other.read_bytes() == b"of another program"
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize("verb", ["train", "calibrate", "space"])
def test_a_file_of_the_same_name_is_refused_before_anything_is_done(verb, photographs, model, tmp_path, capfd):
    (tmp_path / "README.md").write_text("my own")
    words = {
        "train": (*TRAIN, "--dataset", photographs),
        "calibrate": ("calibrate", "--model", model, "--dataset", photographs, "--validation_share", "0.3"),
        "space": ("space", "--model", model),
    }[verb]
    with pytest.raises(SystemExit) as stopped:
        run(*words, "--output", tmp_path)
    assert stopped.value.code == 2
    assert "README.md" in capfd.readouterr().err
    assert (tmp_path / "README.md").read_text() == "my own"
    assert [path.name for path in tmp_path.iterdir() if path.name != ".assocformer"] == ["README.md"]
