"""Model folders to the Hub: checked, tried out in a clean process, and sent as one commit."""

import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from huggingface_hub import HfApi, ModelCard, constants, get_token
from huggingface_hub.errors import HFValidationError, HTTPError
from huggingface_hub.utils import validate_repo_id
from transformers.utils import CONFIG_NAME, IMAGE_PROCESSOR_NAME
from yaml import YAMLError

from assocformer_hf.hub.model_folder import (
    CALIBRATION_FILES,
    CARD_FILE,
    HANDLER,
    MODEL_FILES,
    PREDICTIONS_FILE,
    SAMPLES,
    WEIGHTS,
    read_metrics,
    sample_files,
    sample_of,
)
from assocformer_hf.model.configuration_assocformer import AssocFormerConfig
from assocformer_hf.output_folder import OutputFolder
from assocformer_hf.saved_files import METRICS_FILE
from assocformer_hf.wording import one_line, some

logger = logging.getLogger(__name__)

# In a folder without a list of what the package wrote, such as a download: what it is known to write.
KNOWN = (*MODEL_FILES, *CALIBRATION_FILES, "LICENSE", PREDICTIONS_FILE)
GROUPS = ("model", SAMPLES)
REQUIRED = (CARD_FILE, CONFIG_NAME, IMAGE_PROCESSOR_NAME, HANDLER.name)
ATTEMPTS = 6
# User and organisation tokens, OAuth and JWT forms; the names of functions, such as hf_hub_download, are no such runs.
TOKEN = re.compile(rb"\b(?:hf_(?:[a-z]+_)*[A-Za-z0-9.\-]{20,}|api_org_[A-Za-z0-9]{20,})")
# Passing failures: huggingface_hub retries most requests of an upload, but not all.
PASSING_ERRORS = (HTTPError, json.JSONDecodeError)
PASSING_STATUS = (408, 429, 500, 502, 503, 504)

TRIAL = """
import sys
sys.modules["assocformer_hf"] = None  # the folder must work where the package is not installed
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from PIL import Image
from transformers import pipeline
from handler import EndpointHandler
samples = [Image.open(path) for path in sorted(Path(sys.argv[1], "samples").glob("*.jpg"))]
image = samples[0] if samples else Image.new("RGB", (64, 48), "gray")
tagger = pipeline("image-classification", model=sys.argv[1], trust_remote_code=True)
count = tagger.model.config.num_labels
expected = {row["label"]: row["score"] for row in tagger(image, top_k=count)}
answer = EndpointHandler(sys.argv[1])({"inputs": image, "parameters": {"top_k": count}})
assert isinstance(answer, list), answer
assert set(expected) == set(tagger.model.config.label2id), "the scores lack labels"
for row in answer:
    assert 0 <= row["score"] <= 1 and abs(row["score"] - expected[row["label"]]) < 1e-3, f"unusable scores: {row}"
"""


class PublishError(ValueError):
    """A folder that cannot be published, or a Hub that does not take it; the message names the way out."""


def create_repository(repo_id: str, private: bool | None = None) -> None:
    """Makes the model repository where it is missing, so that a wrong name or token shows before a long training.

    Args:
        repo_id: `name` or `organization/name`.
        private: whether a new repository is private; default: as the organization has it.

    Raises:
        PublishError: if the Hub refuses, or cannot be reached.
    """
    _persistently(repo_id, lambda: HfApi().create_repo(repo_id, private=private, exist_ok=True))


def publish_folder(
    folder: str | Path,
    repo_id: str,
    private: bool | None = None,
    message: str | None = None,
    license: str | None = None,
) -> str:
    """Sends a model folder to the Hub, in one commit, after it was loaded in a clean process.

    What the package wrote of the model is sent: weights, configuration, code, card, metrics, plots and sample images;
    checkpoints, and whatever else lies there, stay. Card and sample images get the repository's name. Weights that the
    repository holds from before are removed where the folder has none of that name. A passing failure of the network or
    of the Hub is tried again, from where the upload stopped.

    The token is that of `hf auth login` or `HF_TOKEN`.

    Args:
        folder: of `save_model_folder`.
        repo_id: `name` or `organization/name`; made where it is missing.
        private: whether a new repository is private; default: as the organization has it.
        message: of the commit.
        license: of the weights, which the card then names, such as `"apache-2.0"`; default: what the card says.

    Returns:
        Address of the commit.

    Raises:
        PublishError: if the folder is incomplete, does not load, or holds what must not be published, or the Hub
            refuses or cannot be reached. The folder keeps everything.
    """
    folder = Path(folder)
    files = check_model_folder(folder)
    create_repository(repo_id, private)
    _name_card(folder, repo_id, license)

    def upload():
        return HfApi().upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            allow_patterns=files,
            delete_patterns=["*.safetensors", "*.safetensors.index.json"],
            commit_message=message or f"Upload {repo_id.rpartition('/')[2]}",
        )

    return str(_persistently(repo_id, upload).commit_url)


def publish_space(folder: str | Path, repo_id: str, private: bool | None = None) -> str:
    """Sends the folder of a Space to the Hub, in one commit; see [`publish_folder`].

    Args:
        folder: of `create_space`.
        repo_id: `name` or `organization/name`; made where it is missing.
        private: whether a new Space is private; default: as the organization has it.

    Returns:
        Address of the commit.

    Raises:
        PublishError: if the Hub refuses or cannot be reached.
    """

    def upload():
        api = HfApi()
        api.create_repo(repo_id, repo_type="space", space_sdk="gradio", private=private, exist_ok=True)
        return api.upload_folder(
            repo_id=repo_id,
            repo_type="space",
            folder_path=folder,
            allow_patterns=OutputFolder(folder).owned("space"),
            commit_message="Upload the app",
        )

    return str(_persistently(repo_id, upload).commit_url)


def check_model_folder(folder: str | Path) -> list[str]:
    """The files of a model folder that are published, after the folder was found complete, safe and loadable.

    Raises:
        PublishError: if a file is missing or holds an access token, metrics and card are those of another model, or the
            folder does not load in a process without the package.
    """
    folder = Path(folder)
    require_parts(folder)
    _require_own_metrics(folder)
    try:
        ModelCard.load(folder / CARD_FILE)
    except (ValueError, YAMLError) as error:
        raise PublishError(f"{folder / CARD_FILE}: its metadata is not valid ({one_line(error)})") from error
    files = [folder / name for name in model_files(folder)]
    for path in files:
        if path.suffix != ".safetensors" and TOKEN.search(path.read_bytes()):
            raise PublishError(f"{path}: holds an access token of the Hub; remove it, and revoke the token")
    _try_out(folder)
    return [path.relative_to(folder).as_posix() for path in files]


def _require_own_metrics(folder: Path):
    """Refuses metrics, and so a card, of other labels than the model's, and warns of weights that were saved since.

    Raises:
        PublishError: if the labels are others.
    """
    if not (folder / METRICS_FILE).is_file():
        return
    way = f"`assocformer calibrate --model {folder} --dataset YOURS` measures this model, and writes both anew"
    labels = AssocFormerConfig.from_pretrained(folder).label_names
    if list(read_metrics(folder)["per_label"]) != labels:
        raise PublishError(
            f"{folder / METRICS_FILE}: it and the card are of other labels than {CONFIG_NAME}, which has "
            f"{some(labels, 3)}; {way}"
        )
    output = OutputFolder(folder)
    weights = _weights(folder).intersection(output.owned("model"))
    if changed := sorted(weights.difference(output.unchanged(weights))):
        logger.warning("%s: changed since the metrics and the card were written; %s", folder / changed[0], way)


def require_repository_name(repo_id: str) -> None:
    """Refuses a name that no repository can have.

    Raises:
        PublishError: saying what is wrong with it.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise PublishError(one_line(error)) from error


def require_parts(folder: str | Path) -> None:
    """Refuses a folder that is no whole model.

    Raises:
        PublishError: if there is no such folder, or a file is missing.
    """
    folder = Path(folder)
    missing = [name for name in REQUIRED if not (folder / name).is_file()]
    if not any(folder.glob("model*.safetensors")):
        missing.append("weights (model*.safetensors)")
    single, index = constants.SAFETENSORS_SINGLE_FILE, constants.SAFETENSORS_INDEX_FILE
    if (folder / single).is_file() and (folder / index).is_file():
        raise PublishError(f"{folder}: holds {single}, and {index} of other weights; remove one of the two")
    if missing:
        raise PublishError(
            f"{folder}: no {', '.join(missing)}; publish a folder that train wrote, or that calibrate wrote on the "
            "images that chose the weights"
        )


def model_files(folder: Path) -> list[str]:
    """The files of a folder that belong to the model, sorted: what the package wrote, weights, and the required."""
    output = OutputFolder(folder)
    names = {*REQUIRED, *sample_files(folder), *(name for group in GROUPS for name in output.owned(group))}
    if not output.owned("model"):
        names |= {*KNOWN}
    names |= _weights(folder)
    return sorted(name for name in names if (folder / name).is_file())


def _weights(folder: Path) -> set[str]:
    """The names of the files of weights."""
    return {path.name for pattern in WEIGHTS for path in folder.glob(pattern)}


def _try_out(folder: Path):
    """Loads the folder and tags an image, in a process that has neither the package, nor the network, nor a token."""
    with tempfile.TemporaryDirectory() as scratch:
        hidden = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH")
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": scratch}
        done = subprocess.run(
            [sys.executable, "-c", TRIAL, str(folder.resolve())],
            env=environment,
            cwd=scratch,
            capture_output=True,
            text=True,
        )
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"the process ended with {done.returncode}"])[-1]
        raise PublishError(f"{folder}: does not load in a clean process, so it is not published ({reason})")


def _name_card(folder: Path, repo_id: str, license: str | None):
    """Gives the card the repository's name and a licence, and its sample images their address there."""
    card = ModelCard.load(folder / CARD_FILE)
    before = card.data.model_name
    card.data.model_name = repo_id
    card.data.license = license or card.data.license
    for example in card.data.get("widget") or []:
        if (name := sample_of(example)) and (folder / name).is_file():
            example["src"] = f"{constants.ENDPOINT}/{repo_id}/resolve/main/{name}"
    if before:
        quoted = json.dumps(before, ensure_ascii=False)
        for place, old, new in (("model={}", quoted, f'"{repo_id}"'), ("# {}\n", before, repo_id)):
            card.text = card.text.replace(place.format(old), place.format(new))
    output = OutputFolder(folder)
    with output.locked():
        output.edit(CARD_FILE, card.save)


def _persistently(repo_id: str, request):
    """The result of requests to the Hub, tried again after a passing failure."""
    attempt = 0
    while True:
        attempt += 1
        try:
            return request()
        except PASSING_ERRORS as error:
            response = getattr(error, "response", None)
            status = getattr(response, "status_code", None)
            if status is not None and status not in PASSING_STATUS:
                raise PublishError(_refusal(repo_id, status, error)) from error
            if attempt == ATTEMPTS:
                raise PublishError(
                    f"{repo_id}: the Hub could not be reached in {ATTEMPTS} attempts ({one_line(error)}); try again "
                    "later with assocformer publish"
                ) from error
            wait = response.headers.get("Retry-After", "") if status == 429 else ""
            time.sleep(min(float(wait), 300) if wait.isdigit() else 2 ** (attempt - 2))
        except ValueError as error:  # a name or a card that is not valid
            raise PublishError(f"{repo_id}: {one_line(error)}") from error


def _refusal(repo_id: str, status: int, error: Exception) -> str:
    if status in (401, 403):
        problem = "the token was not accepted" if get_token() else "no token"
        return (
            f"{repo_id}: the Hub refuses ({status}, {problem}); log in with `hf auth login`, or set HF_TOKEN, with a "
            "token that may write to it"
        )
    return f"{repo_id}: the Hub refuses ({one_line(error)})"
