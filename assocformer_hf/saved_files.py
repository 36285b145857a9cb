"""Saved models: their files, in folders and on the Hub, and their names there."""

import json
import logging
import os
from pathlib import Path

from huggingface_hub import hf_hub_download, is_offline_mode

# `HTTPError` is of the library that this version of huggingface_hub calls: httpx, or, from 2.0 on, httpx2.
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)
from huggingface_hub.utils import validate_repo_id
from transformers.utils import CONFIG_NAME, IMAGE_PROCESSOR_NAME

from assocformer_hf.wording import first_line, shown

logger = logging.getLogger(__name__)

OPTIONS_FILE = "options.yaml"  # what a training leaves beside its model: the options it was called with
METRICS_FILE = "metrics.json"  # of a model folder: what was measured
MODEL_PARTS = {
    CONFIG_NAME: CONFIG_NAME, "model*.safetensors": "weights (model*.safetensors)",
    IMAGE_PROCESSOR_NAME: IMAGE_PROCESSOR_NAME,
}  # fmt: skip
NETWORK_ERRORS = (HTTPError, HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, ConnectionError)


def is_hub_id(text: str, owner: bool = True) -> bool:
    """Whether a text may be the id of a model or dataset on the Hub: `owner/name`, without an owner also `name`."""
    try:
        validate_repo_id(text)
    except HFValidationError:
        return False
    return "/" in text or not owner


class ModelFileError(ValueError):
    """A file of a saved model that is missing or damaged, or a model that is not there; the message names it."""


def require_model(name_or_path: str | Path) -> None:
    """Raises an error where a name is neither a model folder nor a model that can be had from the Hub.

    Args:
        name_or_path: folder or Hub id.

    Raises:
        ModelFileError: where that is so, or a file of the folder cannot be read.
    """
    folder = Path(name_or_path)
    if folder.exists():
        missing = [what for pattern, what in MODEL_PARTS.items() if not any(folder.glob(pattern))]
        if missing:
            raise ModelFileError(
                f"{shown(folder)}: has no {' and no '.join(missing)}; give a folder that train or calibrate wrote"
            )
        for file in (file for pattern in MODEL_PARTS for file in folder.glob(pattern)):
            if not os.access(file, os.R_OK):
                raise ModelFileError(f"{shown(file)}: cannot be read: permission denied")
    elif not is_hub_id(str(name_or_path), owner=False):
        raise ModelFileError(
            f"{shown(folder)}: no such folder; give one that train or calibrate wrote, or a Hub id such as owner/name"
        )
    else:
        try:
            hf_hub_download(str(name_or_path), CONFIG_NAME)
        except NETWORK_ERRORS as error:
            raise ModelFileError(
                f"{name_or_path}: neither a folder of a model nor a model that can be had from the Hub "
                f"({first_line(error)})"
            ) from error


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
    except LocalEntryNotFoundError as error:
        if not is_offline_mode():
            logger.warning("%s: %s could not be fetched, and is taken as missing (%s)", model, name, error)
        return None
    except (EntryNotFoundError, HfHubHTTPError, HFValidationError, OSError):
        return None  # the model's own loading says what is wrong with its name, or the network
