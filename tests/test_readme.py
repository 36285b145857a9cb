"""The snippets of README and docs, run as they stand; a folder with random weights stands in for the Hub's backbone."""

import os
import re
import shlex
import sys
from pathlib import Path

import pytest
from transformers import AutoModel

from assocformer_hf import AssocFormerConfig, AssocFormerForMultiLabel
from assocformer_hf.commands.main import VERBS, create_app, with_values
from assocformer_hf.data.images.transforms import create_image_processor
from assocformer_hf.data.scenes.scenes import load_scenes
from assocformer_hf.data.schema import label_names
from assocformer_hf.model.presets import tiny_cvt, tiny_swin
from tests import forked
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted((ROOT / "docs").glob("*.md"))
CARDS = sorted((ROOT / "model_cards").rglob("*.md"))
# A smaller split is a part of a larger one: the snippets see fewer of the same pictures.
FEWER_SCENES = """
from assocformer_hf.data.scenes.scenes import SPLIT_SIZES
SPLIT_SIZES.update(train=400, validation=120)
"""
NUMBER = re.compile(r"[+-]?\d+\.\d+")
BACKBONE = "timm/swin_large_patch4_window12_384.ms_in22k"


def snippets(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(*starts: str, text: str = README) -> list[list[str]]:
    """The words after one of these beginnings, of a page's command lines that have it."""
    lines = "".join(snippets("bash", text)).replace("\\\n", " ").splitlines()
    found = [(line, start) for line in lines for start in starts if line.startswith(start)]
    return [shlex.split(line.removeprefix(start), comments=True) for line, start in found]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    """A folder that holds what the README speaks of."""
    folder = tmp_path_factory.mktemp("readme")
    scenes = load_scenes("validation", size=3)
    config = AssocFormerConfig(backbone_config=tiny_cvt(), id2label=dict(enumerate(label_names(scenes))))
    AssocFormerForMultiLabel(config).save_pretrained(folder / "outputs/assocformer")
    create_image_processor(64).save_pretrained(folder / "outputs/assocformer")
    backbone_config = tiny_swin(384)
    backbone_config.pretrained_cfg = {"input_size": [3, 384, 384], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    AutoModel.from_config(backbone_config).save_pretrained(folder / "backbone")
    (folder / "images").mkdir()
    for i, example in enumerate(scenes):
        example["image"].save(folder / f"images/{i}.jpg")
    for name in ("examples", "model_cards"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def run(command: list[str], folder: Path) -> str:
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    done = forked.run(command, environment, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_snippets(page: str, folder: Path, first: str = "") -> list[str]:
    """What the Python of a page prints, one snippet after the other."""
    script = "\n".join([first, *snippets("python", page)]).replace(BACKBONE, str(folder / "backbone"))
    return run([sys.executable, "-c", script], folder).splitlines()


def test_python_snippets_run_in_order(workspace):
    printed = run_snippets(README, workspace)
    assert re.fullmatch(r"\w+: \d\.\d\d", printed[0])
    (measured,) = (i for i, line in enumerate(printed) if line.startswith("validation mAP "))
    assert 10 < int(printed[measured].split()[-1]) <= 100
    explained = printed[measured + 1 :]
    for page in (README, (ROOT / "docs/interpretation.md").read_text(encoding="utf-8")):
        (shown,) = snippets("text", page)
        assert NUMBER.sub("", "\n".join(explained)) == NUMBER.sub("", shown.rstrip("\n"))
        numbers = [[float(number) for number in NUMBER.findall(text)] for text in ("\n".join(explained), shown)]
        assert numbers[0] == pytest.approx(numbers[1], abs=0.02)  # another processor rounds otherwise


def test_readme_is_short():
    assert len(README.splitlines()) < 150
    assert len(README.split()) < 1540


@pytest.mark.parametrize(
    "page", [page for page in PAGES if "```python" in page.read_text(encoding="utf-8")], ids=lambda path: path.name
)
def test_python_snippets_of_the_docs_run(workspace, page):
    run_snippets(page.read_text(encoding="utf-8"), workspace, FEWER_SCENES)


def test_predict_runs_as_a_page_says(workspace):
    (words,) = commands("assocformer predict ")
    here = {"outputs/photos": "outputs/assocformer", "new-photos/": "images/"}
    printed = run([sys.executable, "-m", "assocformer_hf", "predict", *(here.get(w, w) for w in words)], workspace)
    assert "images/0.jpg" in printed


def calls(text: str) -> list[list[str]]:
    """The verbs with options that the code of a page calls, in its lines and in its sentences."""
    code = re.findall(r"```[a-z]*\n(.*?)```|`([^`]+)`", text.replace("\\\n", " "), re.DOTALL)
    called = rf"\bassocformer(?:_hf)? ({'|'.join(VERBS)})( --[^\n]+)|\bexamples/train.py()( --[^\n]+)"
    found = [match for block in code for match in re.findall(called, "".join(block))]
    return [
        [verb or "train", *shlex.split(words or options, comments=True)]
        for verb, words, _, options in found
        if "…" not in words + options
    ]


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES, *CARDS], ids=lambda path: "/".join(path.parts[-2:]))
def test_commands_name_existing_options(page):
    for words in calls(page.read_text(encoding="utf-8")):
        # The file that a card names lies beside the model.
        words = with_values(["photographs" if word == "recipe.yaml" else word for word in words])
        create_app().parse_args(words, exit_on_error=False)


def test_the_commands_of_the_pages_are_found():
    pages = [page.read_text(encoding="utf-8") for page in (ROOT / "README.md", *PAGES, *CARDS)]
    found = [words for page in pages for words in calls(page)]
    assert {words[0] for words in found} == set(VERBS)
    assert len(found) > 50
