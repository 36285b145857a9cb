"""What is built and installed: all that is not code is there too, and the metadata say what a user looks for."""

import ast
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from email import message_from_bytes
from importlib.metadata import packages_distributions

import pytest

from assocformer_hf.data.scenes.scenes import load_scenes
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel and the source archive, built from a copy, without a network."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "assocformer_hf", source / "assocformer_hf", ignore=ignore)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    script = f"from setuptools import build_meta as b; b.build_sdist({str(out)!r}); b.build_wheel({str(out)!r})"
    done = subprocess.run([sys.executable, "-c", script], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return zipfile.ZipFile(wheel), tarfile.open(sdist)


@pytest.fixture
def installed(built, tmp_path):
    """Runs a program of a fresh environment with the wheel, in an empty folder; the dependencies are this one's."""
    venv.create(tmp_path / "venv", symlinks=True)
    binaries = tmp_path / "venv/bin"
    pip = [sys.executable, "-m", "pip", "--python", binaries / "python", "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, built[0].filename], check=True, capture_output=True)
    (site,) = (tmp_path / "venv/lib").glob("python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    empty = tmp_path / "empty"
    empty.mkdir()
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}

    def run(program: str, *words: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [binaries / program, *words], cwd=empty, env=own, capture_output=True, text=True, timeout=300, check=False
        )

    return empty, run


@pytest.mark.slow
def test_the_wheel_alone_checks_trains_evaluates_and_tags(installed):
    folder, run = installed
    (folder / "photos").mkdir()
    scenes = load_scenes("train", size=40)
    names = scenes.features["labels"].feature.names
    rows = ["file_name,labels"]
    for i, example in enumerate(scenes):
        example["image"].save(folder / f"photos/{i}.png")
        rows.append(f"{i}.png,{'|'.join(names[label] for label in example['labels'])}")
    (folder / "photos/metadata.csv").write_text("\n".join(rows))
    assert run("assocformer", "check", "--dataset", "photos").returncode == 0
    script = """
import assocformer_hf
from assocformer_hf import Tagger, load_multilabel_dataset, train

dataset = load_multilabel_dataset("photos")
result = train(dataset, backbone="tiny-cvt", image_size=64, epochs=1, batch_size=8, num_workers=0, output_dir="model")
tags = Tagger("model")(["photos/0.png"])
print(assocformer_hf.__file__, len(tags[0].labels), "mAP", result.metrics["mAP"])
"""
    done = run("python", "-c", script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(str(folder.parent / "venv")), done.stdout
    assert done.stderr == ""
    for words in (
        ["train", "--dataset", "photos", "--config", "model/options.yaml", "--output", "again"],
        ["evaluate", "--model", "again", "--report", "report"],
        ["calibrate", "--model", "again", "--output", "calibrated", "--folds", "2"],
        ["explain", "--model", "calibrated", "--images", "photos/0.png", "--output", "why"],
        ["predict", "--model", "calibrated", "--images", "photos", "--output", "tags.csv"],
    ):
        done = run("assocformer", *words)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        assert done.stdout.splitlines()[-1].startswith("next: assocformer ")
    assert len((folder / "tags.csv").read_text().splitlines()) == 41
    assert {"report.html"} <= {path.name for path in (folder / "report").iterdir()}


def test_every_file_of_the_package_is_built(built):
    wheel, sdist = built
    paths = [
        path for path in (ROOT / "assocformer_hf").rglob("*") if path.is_file() and "__pycache__" not in path.parts
    ]
    expected = {path.relative_to(ROOT).as_posix() for path in paths}
    assert {"assocformer_hf/py.typed", "assocformer_hf/training/recipes/photographs.yaml"} <= expected
    assert expected - set(wheel.namelist()) == set()
    assert expected - {name.partition("/")[2] for name in sdist.getnames()} == set()


def test_the_metadata_are_complete(built):
    wheel, _ = built
    (folder,) = {name.partition("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    metadata = message_from_bytes(wheel.read(f"{folder}/METADATA"))
    for field in ("Name", "Version", "Summary", "Author", "Keywords", "Requires-Python"):
        assert metadata[field], field
    assert "Typing :: Typed" in metadata.get_all("Classifier")
    assert b"assocformer = assocformer_hf.commands.main:main" in wheel.read(f"{folder}/entry_points.txt")


def test_what_the_code_imports_is_required(built):
    """Another package's dependency may be gone with its next version, as httpx was with huggingface_hub 2."""
    wheel, _ = built
    (folder,) = {name.partition("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    required = {
        re.split(r"[^\w.-]", line)[0].lower().replace("_", "-")
        for line in message_from_bytes(wheel.read(f"{folder}/METADATA")).get_all("Requires-Dist")
    }
    imported = set()
    for path in (ROOT / "assocformer_hf").rglob("*.py"):
        beside = {"handler", "why", "worth"}  # on the Hub
        siblings = {other.stem for other in path.parent.glob("*.py")} | beside
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            imported |= {name.partition(".")[0] for name in names} - siblings
    of = packages_distributions()
    foreign = imported - sys.stdlib_module_names - {"assocformer_hf"}
    missing = {name for name in foreign if not {part.lower().replace("_", "-") for part in of[name]} & required}
    assert missing == set()
