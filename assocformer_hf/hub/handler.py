"""AssocFormer behind Hugging Face Inference Endpoints: this file travels with the model and needs nothing beside it.

A request is `{"inputs": image or list of images, "parameters": {...}}`. An image is the content of a file as
bytes, base64 or a base64 data URL, or a PIL image. URLs and paths are refused: nothing is fetched, and no file is read.

Parameters:
    threshold: leave out labels below this probability, in [0, 1]; `"default"` takes the model's own threshold(s).
    top_k: how many labels to return at most; default 5, as transformers' pipeline.
    labels: names of the labels to score; default: all.
    explain: whether to add to each label the contributions of five others, or itself: the parts of its logit that came
        through them, alpha E_cj of eq. 7, the strongest first.

The answer is `[{"label": ..., "score": ...}, ...]`, by falling score, for a list of images a list of these. Scores are
probabilities of each label on its own and do not sum to one. What cannot be answered gives
`{"error": {"code": ..., "message": ...}}`, for one image of a list in its place.
"""

import base64
import binascii
import logging
import re
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification

MAX_BYTES = 20 * 2**20  # of one image file
MAX_REQUEST_BYTES = 40 * 2**20
MAX_PIXELS = 50_000_000
MAX_REQUEST_PIXELS = 400_000_000  # images are decoded one after the other: this is a limit of time, not of memory
MAX_IMAGES = 16
EXPLAINED = 5  # labels that an explanation names
EXPLAINED_TOGETHER = 16  # labels whose contributions are in memory at once
DATA_URL = re.compile(r"data:[^,]*;base64,", re.IGNORECASE)
STRINGS = "a string must be base64 or a base64 data URL of an image"
CONTENT = (bytes, bytearray, str)
PARAMETERS = ("threshold", "top_k", "labels", "explain")

logger = logging.getLogger(__name__)


class RequestError(ValueError):
    """A request that is refused.

    Attributes:
        code: a word for programs, such as `"too_large"`.
    """

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code

    def answer(self) -> dict:
        """The error object of the answer."""
        return {"error": {"code": self.code, "message": str(self)}}


class EndpointHandler:
    """Answers requests with the model of a folder.

    Args:
        path: the folder; its own code is run, and nothing is fetched from elsewhere.
    """

    def __init__(self, path: str = "."):
        if not Path(path).is_dir():
            raise ValueError("the endpoint serves a model from a local folder, and there is none of this name")
        device = "cuda" if torch.cuda.is_available() else "cpu"
        options = {"trust_remote_code": True, "local_files_only": True}
        self.model, found = AutoModelForImageClassification.from_pretrained(path, output_loading_info=True, **options)
        if found["missing_keys"]:
            raise ValueError(f"the weights lack {', '.join(sorted(found['missing_keys']))}; upload the model again")
        if found["unexpected_keys"]:
            others = ", ".join(sorted(found["unexpected_keys"]))
            raise ValueError(f"config.json has no place for the weights {others}; upload the model again")
        self.model.to(device).eval()
        self.processor = AutoImageProcessor.from_pretrained(path, **options)
        if not hasattr(self.processor, "decode"):
            raise ValueError("the model's image processor cannot decode images; save the model again")
        self.names = self.model.config.label_names

    def __call__(self, data: dict) -> list | dict:
        """The answer to a request, see the top of this file. It never raises."""
        try:
            inputs, options = self._read_request(data)
            batch = inputs if isinstance(inputs, list) else [inputs]
            images = [self._attempt(one, MAX_REQUEST_PIXELS // len(batch)) for one in batch]
            answers = self._answers(images, options)
            return answers if isinstance(inputs, list) else answers[0]
        except RequestError as error:
            return error.answer()
        except Exception:
            # The operator's log has the details; the client shall not.
            logger.exception("a request failed")
            return RequestError("internal_error", "the request could not be answered").answer()

    def pixels(self, source: bytes | str | Image.Image, max_pixels: int = MAX_PIXELS) -> torch.Tensor:
        """An image of a request as the model's input, `(3, height, width)`.

        Args:
            source: content of a file as bytes, base64 or data URL, or a PIL image.
            max_pixels: how many pixels it may have.

        Raises:
            RequestError: if it is none of these, broken, or too large.
        """
        if isinstance(source, str):
            source = _from_base64(source)
        if not isinstance(source, (bytes, bytearray, Image.Image)):
            raise RequestError("bad_image", "an image must be bytes, base64 or a data URL")
        if not isinstance(source, Image.Image) and len(source) > MAX_BYTES:
            raise RequestError("too_large", f"the file is too large: {_mib(MAX_BYTES)} at most")
        try:
            # By the processor, which travels with the model and decodes as the training did.
            image = self.processor.decode(source, max_pixels=min(max_pixels, MAX_PIXELS))
        except ValueError as error:
            if getattr(error, "too_large", False):  # an `ImageError`, whose class came with the model
                limits = f"{min(max_pixels, MAX_PIXELS) // 10**6} megapixels, 65,535 pixels a side"
                raise RequestError("too_many_pixels", f"the image is too large; at most {limits}") from error
            raise RequestError("bad_image", "this is no image, or a broken one, or not of a known format") from error
        return self.processor(images=image, return_tensors="pt")["pixel_values"][0]

    def _attempt(self, source, max_pixels: int) -> torch.Tensor | dict:
        """The input of the model, or the error object."""
        try:
            return self.pixels(source, max_pixels)
        except RequestError as error:
            return error.answer()

    def _read_request(self, data: dict) -> tuple[list | bytes | str | Image.Image, dict]:
        """The images and the parameters of a request, checked."""
        if not isinstance(data, dict) or "inputs" not in data:
            raise RequestError("bad_request", 'expected {"inputs": image or list of images, "parameters": {...}}')
        inputs = data["inputs"]
        batch = inputs if isinstance(inputs, list) else [inputs]
        if not batch:
            raise RequestError("bad_request", "the list of images is empty")
        if len(batch) > MAX_IMAGES:
            raise RequestError("too_many_images", f"{len(batch)} images; a request takes {MAX_IMAGES} at most")
        sizes = [len(one) * 3 / 4 if isinstance(one, str) else len(one) for one in batch if isinstance(one, CONTENT)]
        if sum(sizes) > MAX_REQUEST_BYTES:
            raise RequestError("too_large", f"the images of a request take {_mib(MAX_REQUEST_BYTES)} at most")
        parameters = data.get("parameters")
        return inputs, self._read_parameters({} if parameters is None else parameters)

    def _read_parameters(self, parameters: dict) -> dict:
        if not isinstance(parameters, dict):
            raise RequestError("bad_parameter", "parameters must be an object")
        if unknown := [name for name in parameters if name not in PARAMETERS]:
            known = ", ".join(PARAMETERS)
            raise RequestError("bad_parameter", f"unknown parameter {_quoted(unknown[0])}; known: {known}")
        given = {name: value for name, value in parameters.items() if value is not None}
        threshold, top_k = given.get("threshold", 0.0), given.get("top_k", 5)
        labels, explain = given.get("labels", self.names), given.get("explain", False)
        is_number = isinstance(threshold, (int, float)) and not isinstance(threshold, bool)
        if threshold != "default" and not (is_number and 0 <= threshold <= 1):
            raise RequestError("bad_parameter", 'threshold must be a number from 0 to 1, or "default"')
        if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
            raise RequestError("bad_parameter", "top_k must be a whole number from 1 on")
        if not isinstance(labels, list) or not labels or not all(isinstance(name, str) for name in labels):
            raise RequestError("bad_parameter", "labels must be a list of names")
        if unknown := [name for name in labels if name not in self.names]:
            raise RequestError("bad_parameter", f"labels: the model does not know {_quoted(unknown[0])}")
        if not isinstance(explain, bool):
            raise RequestError("bad_parameter", "explain must be true or false")
        if explain and self.model.config.fusion == "linear":
            raise RequestError("bad_parameter", "explain: this model has no association module")
        if threshold == "default":
            threshold = self.model.config.thresholds
        thresholds = torch.as_tensor(threshold).expand(len(self.names))
        return {"thresholds": thresholds, "top_k": top_k, "labels": set(labels), "explain": explain}

    @torch.inference_mode()
    def _answers(self, images: list, options: dict) -> list:
        """For each image its labels; errors stay in their place."""
        good = [image for image in images if isinstance(image, torch.Tensor)]
        if not good:
            return images
        batch = torch.stack(good).to(self.model.device)
        output = self.model(batch, output_features=options["explain"])
        scores = output.logits.sigmoid().cpu()
        if not scores.isfinite().all():
            raise ValueError("the model gives scores that are no numbers")
        found = [self._labels(row, options) for row in scores]
        if options["explain"]:
            for rows, features in zip(found, output.features, strict=True):
                self._explain(rows, features)
        answers = iter(found)
        return [next(answers) if isinstance(image, torch.Tensor) else image for image in images]

    def _labels(self, scores: torch.Tensor, options: dict) -> list[dict]:
        """The labels of one image, by falling score."""
        rows = [
            {"label": self.names[i], "score": scores[i].item()}
            for i in scores.argsort(descending=True).tolist()
            if self.names[i] in options["labels"] and scores[i] >= options["thresholds"][i]
        ]
        return rows[: options["top_k"]]

    def _explain(self, rows: list[dict], features: torch.Tensor):
        """Adds the contributions to the labels of one image; those of other labels are not computed."""
        for start in range(0, len(rows), EXPLAINED_TOGETHER):
            part = rows[start : start + EXPLAINED_TOGETHER]
            labels = torch.tensor([[self.model.config.label2id[row["label"]] for row in part]], device=features.device)
            _, contributions = self.model.head.explain(features[None], labels)
            strongest = contributions[0].abs().topk(min(EXPLAINED, len(self.names))).indices
            values = contributions[0].gather(1, strongest)
            for row, through, parts in zip(part, strongest.tolist(), values.tolist(), strict=True):
                row["contributions"] = [
                    {"label": self.names[j], "contribution": value} for j, value in zip(through, parts, strict=True)
                ]


def _from_base64(text: str) -> bytes:
    """The bytes of a data URL or of plain base64."""
    if prefix := DATA_URL.match(text := text.lstrip()):
        text = text[prefix.end() :]
    if len(text) > MAX_BYTES * 1.5:
        raise RequestError("too_large", f"the file is too large: {_mib(MAX_BYTES)} at most")
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError("bad_image", f"{STRINGS}; URLs and paths are not opened") from error


def _mib(count: int) -> str:
    return f"{count / 2**20:.0f} MiB"


def _quoted(value) -> str:
    """A value of the client in a message, short and on one line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
