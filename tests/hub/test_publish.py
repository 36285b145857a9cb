"""From a model folder to the Hub and back: real client, real HTTP, on loopback."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from transformers import AutoImageProcessor

from assocformer_hf import AssocFormerForMultiLabel
from assocformer_hf.data.images.decoding import decode_image
from assocformer_hf.data.images.transforms import create_image_processor
from assocformer_hf.evaluation.evaluator import Evaluation
from assocformer_hf.evaluation.metrics import multilabel_metrics
from assocformer_hf.hub.model_folder import add_sample_images, copy_sample_images, save_model_folder
from assocformer_hf.hub.publish import TOKEN as TOKEN_SHAPES
from assocformer_hf.hub.publish import (
    PublishError,
    _name_card,
    check_model_folder,
    model_files,
    require_repository_name,
)
from assocformer_hf.output_folder import OutputFolder, write_file
from assocformer_hf.saved_files import ModelFileError
from tests import forked
from tests.conftest import NAMES, ROOT
from tests.hub.loopback import TOKEN, Fault, Repository, loopback_hub

TRAINED = ROOT / "model_cards/assocformer-swin-tiny-scenes"
COMMAND = """
import importlib
import sys
from huggingface_hub import constants
from assocformer_hf.commands.main import main
importlib.reload(constants)  # huggingface_hub reads its environment once, at import: before this process was forked
main(sys.argv[1:])
"""
LOAD = """
import sys
sys.modules["assocformer_hf"] = None  # any import of the package fails
import json
import torch
from huggingface_hub import constants, model_info
from huggingface_hub.errors import RepositoryNotFoundError
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification, pipeline
repo, image, output = sys.argv[1:]
constants.DOWNLOAD_CHUNK_SIZE = 2**16  # a download goes on where it was interrupted, by whole chunks
try:
    private = not model_info(repo, token=False)
except RepositoryNotFoundError:
    private = True
model = AutoModelForImageClassification.from_pretrained(repo, trust_remote_code=True)
inputs = AutoImageProcessor.from_pretrained(repo, trust_remote_code=True)(Image.open(image), return_tensors="pt")
tagger = pipeline(model=repo, trust_remote_code=True)
with torch.inference_mode():
    logits = model(**inputs).logits.tolist()
open(output, "w").write(json.dumps({"logits": logits, "tags": tagger(image, top_k=9), "private": private}))
"""

CREATE = """
import importlib
from huggingface_hub import constants
importlib.reload(constants)
from assocformer_hf.hub.publish import PublishError, create_repository
try:
    create_repository("org/name")
except PublishError as error:
    print(error)
"""


def example_folder(model, folder: Path) -> Path:
    """A model folder as a training leaves it; the evaluation is of random scores."""
    scores = np.random.default_rng(0).random((8, len(NAMES)))
    targets = np.eye(len(NAMES), dtype=np.int8)[np.arange(8) % len(NAMES)]
    metrics = multilabel_metrics(scores, targets)
    association = np.full((len(NAMES), len(NAMES)), 0.5)
    evaluation = Evaluation(metrics, scores, targets, np.arange(8), [], association, 0.5, 0.0)
    run = {
        "dataset": "scenes", "train_split": "train", "eval_split": "validation", "train_images": 32,
        "backbone": "tiny", "base_model": None, "weights": "raw", "epoch": 1, "options": {"epochs": 2},
    }  # fmt: skip
    save_model_folder(folder, model, create_image_processor(64), evaluation, run)
    add_sample_images(folder, [Image.new("RGB", (90, 60), colour) for colour in ("orange", "navy")])
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints/state.json").write_text("{}")
    (folder / ".env").write_text(f"HF_TOKEN={TOKEN}")
    return folder


@pytest.fixture(scope="module", params=[pytest.param("tiny-swin", marks=pytest.mark.slow), "tiny-cvt"])
def published(request, create_model, tmp_path_factory):
    """A published model: the Hub, the model, its folder, and what the script printed.

    Swin is one file in a public repository; CvT is several files in a private one, through a Hub with every fault.
    """
    model = create_model(request.param)
    folder = example_folder(model, tmp_path_factory.mktemp("publish") / "local-name")
    with loopback_hub() as hub:
        options = []
        if request.param == "tiny-cvt":
            (folder / "model.safetensors").unlink()
            model.save_pretrained(folder, max_shard_size="2MB")
            options = ["--hub_private_repo", "true"]
            hub.faults += [
                Fault("POST", "/api/repos/create", 503),
                Fault("POST", "/preupload/", 429, headers={"Retry-After": "0"}),
                Fault("PUT", "/lfs/", None),
                Fault("PUT", "/lfs/", 500),
                Fault("POST", "/commit/", 502),
                Fault("POST", "/commit/", None, after=True),
            ]
        done = publish(hub, folder, *options)
        assert done.returncode == 0, done.stderr
        yield hub, model, folder, done.stdout + done.stderr


def environment(hub, home: Path, token: str | None = TOKEN) -> dict[str, str]:
    known = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    settings = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(home), "OMP_NUM_THREADS": "1"}
    return known | settings | ({"HF_TOKEN": token} if token else {})


def publish(hub, folder: Path, *options: str, token: str | None = TOKEN) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", COMMAND, "publish", "--model", str(folder), "--hub_model_id", "org/name", *options]
    command += ["--license", "cc-by-4.0"]
    return forked.run(command, environment(hub, folder.parent / "publisher", token))


def load(hub, folder: Path, token: str | None = TOKEN) -> subprocess.CompletedProcess:
    """Loads `org/name` in a process that has neither the package nor a cache; the result is in `loaded.json`."""
    command = [
        sys.executable,
        "-c",
        LOAD,
        "org/name",
        str(folder / "samples/1.jpg"),
        str(folder.parent / "loaded.json"),
    ]
    home = folder.parent / f"reader-{len(hub.requests)}"
    return subprocess.run(command, env=environment(hub, home, token), cwd=folder.parent, capture_output=True, text=True)


def test_what_was_published_gives_the_same_scores_without_the_package(published):
    hub, model, folder, _ = published
    private = hub.repositories["org/name"].private
    hub.faults += [
        Fault("GET", r"resolve/.*safetensors$", None),
        Fault("GET", r"resolve/.*\.py$", 429, headers={"Retry-After": "0"}),
    ]
    done = load(hub, folder, TOKEN if private else None)
    assert done.returncode == 0, done.stderr
    assert not any(fault.times for fault in hub.faults)
    assert hub.ranges, "the dropped download was not resumed"
    loaded = json.loads((folder.parent / "loaded.json").read_text())
    inputs = AutoImageProcessor.from_pretrained(folder)(
        images=Image.open(folder / "samples/1.jpg"), return_tensors="pt"
    )
    logits = model(**inputs).logits
    torch.testing.assert_close(torch.tensor(loaded["logits"]), logits, rtol=0, atol=1e-5)
    scores = {row["label"]: row["score"] for row in loaded["tags"]}
    assert scores == pytest.approx(dict(zip(NAMES, logits.sigmoid()[0].tolist(), strict=True)), abs=1e-5)
    assert loaded["private"] == private


def test_the_repository_holds_the_model_in_one_commit_and_nothing_else(published):
    hub, _, folder, printed = published
    repository = hub.repositories["org/name"]
    assert len(repository.commits) == 2  # the Hub makes the first one itself
    assert f"/org/name/commit/{repository.commits[-1]}" in printed
    expected = {
        "README.md", "config.json", "preprocessor_config.json", "metrics.json", "handler.py",
        "requirements.txt", "modeling_assocformer.py", "samples/1.jpg", "samples/2.jpg",
    }  # fmt: skip
    assert expected <= repository.files.keys()
    assert not {name for name in repository.files if "checkpoint" in name or name.startswith(".")}
    weights = {name for name in repository.files if name.endswith(".safetensors")}
    assert weights == {path.name for path in folder.glob("*.safetensors")}
    assert (len(weights) > 1) == repository.private


def test_no_token_is_printed_or_published(published):
    hub, _, _, printed = published
    assert TOKEN not in printed
    assert not [name for name, content in hub.repositories["org/name"].files.items() if TOKEN.encode() in content]


def test_the_card_names_the_repository_and_its_samples(published):
    hub, _, _, _ = published
    card = ModelCard(hub.repositories["org/name"].files["README.md"].decode())
    assert (card.data.model_name, card.data.license) == ("org/name", "cc-by-4.0")
    assert 'model="org/name"' in card.text
    assert "local-name" not in card.content
    for i, example in enumerate(card.data.widget, start=1):
        assert example["src"] == f"{hub.url}/org/name/resolve/main/samples/{i}.jpg"


@pytest.mark.slow
def test_publishing_again_sends_what_changed(published):
    hub, model, folder, _ = published
    repository, count = hub.repositories["org/name"], len(hub.requests)
    before = dict(repository.files)
    for path in folder.glob("model*"):
        path.unlink()
    model.save_pretrained(folder, max_shard_size="1MB")
    done = publish(hub, folder)
    assert done.returncode == 0, done.stderr
    weights = {name for name in repository.files if name.endswith(".safetensors")}
    assert weights == {path.name for path in folder.glob("*.safetensors")}
    assert len(weights) > 3
    assert repository.files["README.md"] == before["README.md"]
    changed = {name for name in repository.lfs & repository.files.keys() if before.get(name) != repository.files[name]}
    sent = {line.split()[1] for line in hub.requests[count:] if line.startswith("PUT")}
    assert sent == {f"/lfs/{hashlib.sha256(repository.files[name]).hexdigest()}" for name in changed}
    assert len(repository.commits) == 3


@pytest.mark.parametrize(
    ("token", "faults", "message"),
    [
        ("hf_" + "wrong" * 8, [], "org/name: the Hub refuses \\(401, .*hf auth login"),
        (None, [], "org/name: the Hub refuses \\(401, no token.*hf auth login"),
        (TOKEN, [Fault("POST", "create", 503, times=9)], "org/name: the Hub could not be reached in 6 attempts"),
        (TOKEN, [Fault("POST", "create", None, times=9)], "org/name: the Hub could not be reached in 6 attempts"),
        (TOKEN, [Fault("POST", "create", 403)], "org/name: the Hub refuses \\(403, the token was not accepted"),
    ],
)
def test_a_hub_that_refuses_or_is_down_is_told_in_one_line(tmp_path, token, faults, message):
    with loopback_hub() as hub:
        hub.faults += faults
        done = forked.run([sys.executable, "-c", CREATE], environment(hub, tmp_path, token))
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert re.match(message, line)
    assert "hf_" not in line


@pytest.mark.slow
def test_a_training_publishes_its_best_weights(tmp_path, small_coco):
    command = [sys.executable, str(ROOT / "examples/train.py"), "--output_dir", str(tmp_path / "model")]
    values = {
        "dataset": "coco", "data_dir": small_coco, "train_split": "train", "eval_split": "val", "backbone": "tiny-cvt",
        "image_size": 64, "epochs": 1, "batch_size": 8, "hub_model_id": "org/name", "hub_sample_images": 2,
    }  # fmt: skip
    command += [text for name, value in values.items() for text in (f"--{name}", str(value))]
    with loopback_hub() as hub:
        done = subprocess.run(
            [*command, "--push_to_hub"], env=environment(hub, tmp_path), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert f"published: {hub.url}/org/name/commit/" in done.stdout
        files = hub.repositories["org/name"].files
    assert {"model.safetensors", "README.md", "samples/2.jpg"} <= files.keys()
    assert files["model.safetensors"] == (tmp_path / "model/model.safetensors").read_bytes()


@pytest.mark.slow
def test_a_space_is_published(tmp_path):
    command = [sys.executable, "-m", "assocformer_hf", "space", "--model", "org/name", "--push_to_hub"]
    with loopback_hub() as hub:
        done = subprocess.run(
            [*command, "--hub_space_id", "org/demo", "--output", str(tmp_path / "space")],
            env=environment(hub, tmp_path),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        space = hub.repositories["org/demo"]
    assert space.kind == "space"
    assert set(space.files) == {
        "README.md", "app.py", "handler.py", "page.html", "page.js", "panels.py", "requirements.txt", "style.css",
        "why.py", "worth.py",
    }  # fmt: skip
    assert {path.name for path in (tmp_path / "space").iterdir()} == {*space.files, ".assocformer"}
    header = ModelCard(space.files["README.md"].decode()).data.to_dict()
    assert (header["sdk"], header["app_file"], header["models"]) == ("gradio", "app.py", ["org/name"])
    assert b"'org/name'" in space.files["app.py"]
    with loopback_hub() as hub:
        files = [path for path in TRAINED.rglob("*") if path.is_file()]
        contents = {path.relative_to(TRAINED).as_posix(): path.read_bytes() for path in files}
        hub.repositories["org/name"] = Repository(private=True, files=contents)
        command = [sys.executable, "-c", "import sys; sys.path.insert(0, '.'); import app; app.build()"]
        done = subprocess.run(
            command, env=environment(hub, tmp_path / "home"), cwd=tmp_path / "space", capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_wrong_token_shows_before_the_training(tmp_path):
    command = [sys.executable, str(ROOT / "examples/train.py"), "--backbone", "tiny-cvt", "--push_to_hub"]
    with loopback_hub() as hub:
        done = subprocess.run(
            [*command, "--hub_model_id", "org/name", "--output_dir", str(tmp_path / "model")],
            env=environment(hub, tmp_path, "hf_" + "wrong" * 8),
            capture_output=True,
            text=True,
        )
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "org/name: the Hub refuses (401" in line
    assert "hf auth login" in line
    assert "Traceback" not in done.stderr
    assert "wrongwrong" not in done.stdout + done.stderr
    assert not (tmp_path / "model").exists()


@pytest.fixture(scope="module")
def example(create_model, tmp_path_factory):
    return example_folder(create_model("tiny-cvt"), tmp_path_factory.mktemp("example") / "model")


@pytest.fixture
def folder(example, tmp_path):
    return shutil.copytree(example, tmp_path / "model")


def test_a_folder_with_a_token_is_not_published(folder):
    (folder / "README.md").write_text((folder / "README.md").read_text() + f"\nrun with {TOKEN}\n")
    with pytest.raises(PublishError, match="README.md: holds an access token"):
        check_model_folder(folder)


@pytest.mark.parametrize(
    "token",
    [
        TOKEN,
        "hf_" + 20 * "a",
        "hf_oauth_eyJhbGciOiJFZERTQSJ9.eyJzY29wZSI6WyJv",
        "api_org_" + 34 * "x",
        "hf_jwt_" + 30 * "b",
    ],
)
def test_tokens_of_every_shape_are_known(token):
    assert TOKEN_SHAPES.search(f"run with {token}\n".encode())


def test_names_of_functions_are_no_tokens():
    assert not TOKEN_SHAPES.search(b"hf_hub_download(hf_model_revision_of_the_backbone, api_org_name) # hf_auth_login")


@pytest.mark.parametrize("manifest", ["of the model", "none", "of another output"])
def test_only_the_models_own_files_are_published(folder, manifest):
    """Also of a folder without a list of them, such as a download, and where something was written into one."""
    own = set(model_files(folder))
    if manifest != "of the model":
        shutil.rmtree(folder / ".assocformer")
    if manifest == "of another output":
        write_file(folder / "tags.csv", lambda path: path.write_text("image,labels"))
    for name in ("notes.txt", "wandb.json", ".patients.csv", "samples/private.png", "thesis.py"):
        (folder / name).write_text("private")
    assert set(model_files(folder)) == own
    assert {"README.md", "config.json", "model.safetensors", "handler.py", "samples/1.jpg"} <= own


def test_a_folder_that_is_checked_stays_as_it_is(folder):
    shutil.rmtree(folder / ".assocformer")
    check_model_folder(folder)
    assert not (folder / ".assocformer").exists()


def test_weights_that_were_saved_anew_are_published(create_model, folder):
    create_model("tiny-cvt").save_pretrained(folder, max_shard_size="2MB")
    with pytest.raises(PublishError, match=r"holds model.safetensors, and model.safetensors.index.json of other"):
        check_model_folder(folder)
    (folder / "model.safetensors").unlink()
    shards = {path.name for path in folder.glob("model-*-of-*.safetensors")}
    assert len(shards) > 1
    (folder / "samples/.DS_Store").write_bytes(b"no picture")
    assert shards | {"model.safetensors.index.json"} <= set(check_model_folder(folder))
    for name in shards:
        (folder / name).unlink()
    with pytest.raises(PublishError, match=r"no weights \(model\*.safetensors\)"):
        check_model_folder(folder)


def test_metrics_and_card_of_another_model_are_not_published(folder, caplog):
    """As after a training of one's own that saves into the folder of the model that it began with."""
    names = AssocFormerForMultiLabel.from_pretrained(folder).config.label_names
    others = {"id2label": ["cat", "dog", "sofa"], "ignore_mismatched_sizes": True}
    model = AssocFormerForMultiLabel.from_pretrained(folder, **others)
    before = {path: path.read_bytes() for path in folder.glob("*") if path.is_file()}
    model.save_pretrained(folder)
    with pytest.raises(PublishError, match="are of other labels than config.json, which has cat, dog, sofa; `assoc"):
        check_model_folder(folder)
    for path, content in before.items():
        path.write_bytes(content)
    model = AssocFormerForMultiLabel.from_pretrained(folder)
    assert model.config.label_names == names
    OutputFolder(folder).add("model", ["model.safetensors"])  # as after a training
    check_model_folder(folder)
    assert "changed since" not in caplog.text
    model.head.embedding.bias.data += 1
    model.save_pretrained(folder)
    check_model_folder(folder)
    assert f"{folder / 'model.safetensors'}: changed since the metrics and the card were written" in caplog.text


def test_a_name_that_no_repository_can_have_is_refused():
    require_repository_name("org/name")
    with pytest.raises(PublishError, match="mein modell"):
        require_repository_name("mein modell")


def test_a_widget_that_was_edited_keeps_its_links(folder):
    card = ModelCard.load(folder / "README.md")
    own = [{"src": "https://example.org/mine/cat.jpg"}, {"text": "a cat"}, {"src": "samples/gone.jpg"}]
    card.data["widget"] += own
    card.save(folder / "README.md")
    _name_card(folder, "org/name", None)
    named = ModelCard.load(folder / "README.md").data.widget
    assert named[2:] == own
    assert named[0]["src"].endswith("/org/name/resolve/main/samples/1.jpg")


def test_samples_are_without_what_was_noted_in_their_files(folder, tmp_path):
    files = [tmp_path / name for name in ("noted.jpg", "noted.gif")]
    for file in files:
        Image.new("RGB", (90, 60), "orange").save(file, comment=b"Jane Doe, 52.5 N 13.4 E")
    add_sample_images(folder, [decode_image(file) for file in files])
    for file, name in zip(files, ("1.jpg", "2.jpg"), strict=True):
        assert b"Jane Doe" in file.read_bytes()
        assert b"Jane Doe" not in (folder / "samples" / name).read_bytes()


def test_samples_are_taken_over_as_the_new_model_tags_them_and_nothing_else(create_model, folder, tmp_path):
    (folder / "samples/private.jpg").write_bytes((folder / "samples/1.jpg").read_bytes())
    (folder / "samples/LICENSES.md").write_text("1 and 2: mine")
    card = ModelCard.load(folder / "README.md")
    card.data["widget"].append({"src": "https://example.org/mine/cat.jpg"})
    card.save(folder / "README.md")
    without = shutil.ignore_patterns("samples", "predictions.jpg", ".assocformer")
    other = shutil.copytree(folder, tmp_path / "other", ignore=without)
    create_model("tiny-cvt", threshold=0.999).save_pretrained(other)
    copy_sample_images(folder, other)
    assert sorted(path.name for path in (other / "samples").iterdir()) == ["1.jpg", "2.jpg", "LICENSES.md"]
    assert (other / "predictions.jpg").read_bytes() != (folder / "predictions.jpg").read_bytes()
    assert len(ModelCard.load(other / "README.md").data.widget) == 3
    card.data.pop("widget")
    card.save(folder / "README.md")
    again = shutil.copytree(other, tmp_path / "again", ignore=without)
    copy_sample_images(folder, again)
    assert (again / "samples/1.jpg").is_file()


def test_a_card_with_broken_metadata_is_not_published(folder):
    (folder / "README.md").write_text("---\ntags: [a\n---\n# Model\n")
    with pytest.raises(PublishError, match="README.md: its metadata is not valid"):
        check_model_folder(folder)
    with pytest.raises(ModelFileError, match="README.md: its metadata is not valid .* mend or remove it"):
        copy_sample_images(folder, folder.parent / "other")


@pytest.mark.parametrize("name", ["README.md", "config.json", "handler.py", "model.safetensors"])
def test_an_incomplete_folder_is_not_published(folder, name):
    (folder / name).unlink()
    with pytest.raises(PublishError, match="no (README.md|config.json|handler.py|weights)"):
        check_model_folder(folder)


@pytest.mark.slow
def test_a_folder_that_does_not_load_is_not_published(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(PublishError, match="does not load in a clean process"):
        check_model_folder(folder)
