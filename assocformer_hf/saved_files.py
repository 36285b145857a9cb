"""Saved models: their files, in folders and on the Hub, and their names there."""

import json
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id

OPTIONS_FILE = "options.yaml"  # what a training leaves beside its model: the options it was called with
METRICS_FILE = "metrics.json"  # of a model folder: what was measured


def is_hub_id(text: str, owner: bool = True) -> bool:
    """Whether a text may be the id of a model or dataset on the Hub: `owner/name`, without an owner also `name`."""
    try:
        validate_repo_id(text)
    except HFValidationError:
        return False
    return "/" in text or not owner


class ModelFileError(ValueError):
    """A file beside a model's weights that is damaged; the message names it."""


def read_metrics_file(file: str | Path) -> dict:
    """What a `metrics.json` holds.

    Raises:
        ModelFileError: if it is damaged.
    """
    try:
        return dict(json.loads(Path(file).read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ModelFileError(f"{file}: cannot be read ({error}); fetch or write the folder again") from error


def file_of_model(model: str | Path, name: str) -> Path | None:
    """A file that a saved model may have beside its weights; None where it has none.

    Args:
        model: folder or Hub id.
        name: of the file.
    """
    if Path(model).is_dir():
        file = Path(model) / name
        return file if file.is_file() else None
    try:
        return Path(hf_hub_download(str(model), name))
    except (EntryNotFoundError, HfHubHTTPError, HFValidationError, OSError):
        return None  # the model's own loading says what is wrong with its name, or the network
