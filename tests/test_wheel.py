"""What is built and installed: all that is not code is there too, and the metadata say what a user looks for."""

import ast
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from importlib.metadata import packages_distributions

import pytest

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
        siblings = {other.stem for other in path.parent.glob("*.py")} | {"handler"}  # a folder of its own, on the Hub
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            imported |= {name.partition(".")[0] for name in names} - siblings
    of = packages_distributions()
    foreign = imported - sys.stdlib_module_names - {"assocformer_hf"}
    missing = {name for name in foreign if not {part.lower().replace("_", "-") for part in of[name]} & required}
    assert missing == set()
