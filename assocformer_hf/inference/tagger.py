"""A trained model and its image processor as one object: images in, labels out."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from assocformer_hf.data.schema import DataError
from assocformer_hf.device import prepare_device
from assocformer_hf.evaluation.association_worth import is_worth_showing
from assocformer_hf.evaluation.metrics import reaches
from assocformer_hf.evaluation.trained_model import NO_NUMBERS, load_model_and_processor
from assocformer_hf.inference.images import NO_IMAGE, File, Source, read_source
from assocformer_hf.inference.onnx import OnnxModel, cached_onnx, calibration_images, is_convolutional
from assocformer_hf.inference.options import PRECISIONS, RUNTIMES
from assocformer_hf.interpretation.explanation import ImageExplanation, explain_image
from assocformer_hf.model.image_processing_assocformer import MAX_PIXELS, ImageError
from assocformer_hf.option_values import OptionError, require
from assocformer_hf.quiet import quiet_libraries
from assocformer_hf.saved_files import METRICS_FILE, file_of_model, read_metrics_file

AUTOCAST_DTYPES = {"no": None, "fp16": torch.float16, "bf16": torch.bfloat16}
TAGS = ("labels", "scores", "is_guess", "error")  # columns that a batch gets


@dataclass
class TaggedImage:
    """The labels of an image.

    Attributes:
        name: the file, or the image's number.
        labels: those that reach their thresholds, by falling score; the likeliest alone where none does.
        scores: their probabilities; each is the label's own, they do not sum to one.
        is_guess: whether no label reached its threshold, and `labels` is the best guess.
        all_scores: the probabilities of all labels in the model's order, `(labels,)`, float32.
        error: why the image could not be read or scored; it has no labels then.
    """

    name: str
    labels: list[str]
    scores: list[float]
    is_guess: bool = False
    all_scores: np.ndarray | None = None
    error: str | None = None


class Tagger:
    """A trained model that tags images: `Tagger("outputs/photos")(["a.jpg", picture])`.

    It also takes batches as mappings with a column `image`, and returns them with `labels`, `scores`, `is_guess` and
    `error` (`""` where there is none): `datasets.Dataset.map(tagger, batched=True)` and Ray's `map_batches(Tagger, …)`
    want it so. A column that has one of these names already, such as the true labels, has to be renamed first.

    On a CPU with glibc the process keeps freed memory for the next images, which is faster and takes up to half as much
    memory again; with the environment variable `MALLOC_TRIM_THRESHOLD_=131072` glibc gives freed memory back at once.
    So a process that has seen a very large picture keeps the memory that it took: where pictures come from strangers,
    set `max_pixels`, and that variable before the process starts.

    Args:
        model: folder or Hub id of a trained AssocFormer.
        threshold: probability from which a label is predicted; default: the model's own threshold(s).
        top_k: how many labels an image gets at most; default: all that reach their thresholds.
        batch_size: images that go through the model together.
        device: such as `"cuda:1"`; default: the GPU where there is one.
        mixed_precision: `"no"`, `"fp16"` or `"bf16"`.
        runtime: what computes the scores: `"torch"`, or onnxruntime on the CPU, in float32 with `"onnx"` and in int8
            with `"onnx-int8"`. Its file is made once, in the cache of Hugging Face.
        calibration: for int8 and a convolutional backbone: images like those to tag, 256 of which are looked at, to
            measure the ranges of its activations.
        max_pixels: how many pixels an image may have; one with more is not decoded, and an error says so.

    Attributes:
        name: its folder or Hub id.
        model: the model, in evaluation mode.
        processor: its image processor.
        label_names: in the order of the scores.
        thresholds: probability from which each label is predicted, `(labels,)`.

    Raises:
        OptionError: if an option is out of its range.
        ModelFileError: if there is no such model, or a file of it is missing.
    """

    @quiet_libraries()
    def __init__(
        self,
        model: str | Path,
        threshold: float | None = None,
        top_k: int | None = None,
        batch_size: int = 32,
        device: str | torch.device | None = None,
        mixed_precision: str = "no",
        runtime: str = "torch",
        calibration: Sequence[Source] = (),
        max_pixels: int = MAX_PIXELS,
    ):
        require(
            {"threshold": threshold, "top_k": top_k, "batch_size": batch_size, "runtime": runtime}
            | {"mixed_precision": mixed_precision, "max_pixels": max_pixels},
            at_least={"top_k": 1, "batch_size": 1},
            between={"threshold": (0, 1), "max_pixels": (1, MAX_PIXELS)},
            one_of={"mixed_precision": PRECISIONS, "runtime": RUNTIMES},
            whole=("top_k", "batch_size", "max_pixels"),
        )
        if runtime != "torch" and (mixed_precision != "no" or torch.device(device or "cpu").type != "cpu"):
            raise OptionError(
                f"runtime {runtime} computes on the CPU, in its own precision: leave out device and precision"
            )
        self.name = model
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() and runtime == "torch" else "cpu"))
        prepare_device(self.device, mixed_precision)
        loaded, self.processor = load_model_and_processor(model)
        self.model = loaded.to(self.device)
        config = self.model.config
        self.label_names = config.label_names
        self.thresholds = np.array(config.thresholds if threshold is None else [threshold] * config.num_labels)
        self.top_k, self.batch_size, self.mixed_precision = top_k, batch_size, mixed_precision
        self.max_pixels = max_pixels
        self.onnx: OnnxModel | None = None
        if runtime != "torch":
            int8 = runtime == "onnx-int8"
            fitted = calibration_images(self.processor, calibration) if int8 and is_convolutional(self.model) else None
            self.onnx = OnnxModel(cached_onnx(self.model, self.processor, int8, fitted))

    @overload
    def __call__(self, images: Mapping) -> dict: ...
    @overload
    def __call__(self, images: File) -> TaggedImage: ...  # type: ignore[overload-overlap]  # text is a sequence too
    @overload
    def __call__(self, images: Sequence[Source]) -> list[TaggedImage]: ...

    def __call__(self, images: Source | Sequence[Source] | Mapping) -> TaggedImage | list[TaggedImage] | dict:
        """Tags an image, a list of images, or a batch with the column `image`.

        Args:
            images: paths, contents of files as bytes, open files, PIL images, or arrays `(height, width, 3)` in uint8;
                in a batch also what a dataset of undecoded images gives, its `bytes` and `path`.

        Returns:
            For one image a [`TaggedImage`], for a list a list of them in its order, for a mapping a mapping.

        Raises:
            ImageError: if a single image cannot be read. In a list, its `error` says so.
            DataError: if its scores are no numbers, as where weights are broken or half precision overflows; likewise.
                Or if a mapping has a column that the labels would replace, or a whole dataset is given.
        """
        if isinstance(images, Mapping):
            if taken := [name for name in TAGS if name in images]:
                raise DataError(
                    f"the batch has a column {taken[0]!r} already, which tagging would replace: rename it first, as by "
                    f'rename_column("{taken[0]}", "true_{taken[0]}"), or leave it out'
                )
            if "image" not in images:
                raise DataError(f"a batch has its images in the column 'image'; it has {', '.join(map(repr, images))}")
            column = images["image"]
            if isinstance(column, (str, Path, bytes, bytearray, Mapping, Image.Image)) or (
                isinstance(column, np.ndarray) and column.dtype != object and column.ndim < 4
            ):
                raise DataError(
                    "the column 'image' holds one image, not those of a batch: dataset.map(tagger, batched=True), or "
                    "tagger(image)"
                )
            # Not by a call of its own: Ray has one thread for calls, and one inside another would wait for it forever.
            tagged = self._tag_all(list(column))
            columns = {name: [getattr(one, name) for one in tagged] for name in TAGS}
            # Text in every batch: a column of None alone has no type.
            columns["error"] = [error or "" for error in columns["error"]]
            return dict(images) | columns
        if hasattr(images, "column_names") or hasattr(images, "columns"):  # a list of its columns' names
            raise DataError(
                "a dataset is tagged by dataset.map(tagger, batched=True), or, as a DataFrame is, its column of images "
                "as a list"
            )
        if images is None or isinstance(images, (memoryview, Tensor, int, float)):
            raise DataError(NO_IMAGE.format(type(images).__name__))
        if hasattr(images, "read") or isinstance(images, (str, Path, bytes, bytearray, Image.Image, np.ndarray)):
            (tagged,) = self._tag([self._read(cast(Source, images))])
            if tagged.error:
                raise DataError(f"{tagged.name}: {tagged.error}: its weights are broken, or half precision overflows")
            return tagged
        return self._tag_all(images if hasattr(images, "__getitem__") else list(images))

    def explain(self, image: Source, labels: Sequence[str] | None = None) -> ImageExplanation:
        """Why an image gets its labels: see `assocformer_hf.interpretation.explanation`.

        Args:
            image: as for a call.
            labels: those to explain; default: those that are predicted, or the likeliest.

        Raises:
            ImageError: if the image cannot be read.
            DataError: if the model does not know a label.
        """
        pixel_values = self._inputs(self._read(image)[1][None])
        named = is_worth_showing(self.association_worth)
        return explain_image(self.model, pixel_values, labels, self.thresholds, named)

    @cached_property
    def association_worth(self) -> dict | None:
        """What the model's `metrics.json` says of its A: see `assocformer_hf.evaluation.association_worth`."""
        file = file_of_model(self.name, METRICS_FILE)
        if file is None:
            return None
        return (read_metrics_file(file).get("association") or {}).get("worth")

    @torch.inference_mode()
    def score(self, pixels: Tensor) -> np.ndarray:
        """Images `(batch, 3, height, width)` in uint8 and the model's size, to probabilities `(batch, labels)`."""
        if self.onnx is not None:
            return self.onnx(self._inputs(pixels)).sigmoid().numpy()
        dtype = AUTOCAST_DTYPES[self.mixed_precision]
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            logits = self.model(self._inputs(pixels)).logits
        return logits.float().sigmoid().cpu().numpy()

    def tags(self, name: str, scores: np.ndarray) -> TaggedImage:
        """The labels of an image with these probabilities, `(labels,)`."""
        if not np.isfinite(scores).all():
            return TaggedImage(name, [], [], error=NO_NUMBERS)
        order = np.argsort(-scores, kind="stable")
        chosen = order[reaches(scores, self.thresholds)[order]][: self.top_k]
        is_guess = len(chosen) == 0
        chosen = order[:1] if is_guess else chosen
        return TaggedImage(
            name, [self.label_names[i] for i in chosen], scores[chosen].tolist(), is_guess, all_scores=scores
        )

    def _read(self, image: Source, number: int = 0) -> tuple[str, Tensor]:
        return read_source(image, self.processor, number, self.max_pixels)

    def _inputs(self, pixels: Tensor) -> Tensor:
        return self.processor(pixels.to(self.device), do_resize=False, return_tensors="pt")["pixel_values"]

    def _tag(self, read: Iterable[tuple[str, Tensor]]) -> list[TaggedImage]:
        names, pixels = zip(*read, strict=True)
        return [self.tags(*pair) for pair in zip(names, self.score(torch.stack(pixels)), strict=True)]

    def _tag_all(self, images: Sequence[Source]) -> list[TaggedImage]:
        starts = range(0, len(images), self.batch_size)
        if len(starts) == 1:
            return self._tag_readable(self._read_batch(images, 0))
        tagged: list[TaggedImage] = []
        # PIL, torch and onnxruntime let other threads work: the next batch is decoded beside the model.
        with ThreadPoolExecutor(1) as reader:
            coming = reader.submit(self._read_batch, images, 0)
            for start in starts:
                batch = coming.result()
                coming = reader.submit(self._read_batch, images, start + self.batch_size)
                tagged += self._tag_readable(batch)
        return tagged

    def _read_batch(self, images: Sequence[Source], start: int) -> list[tuple[str, Tensor] | ImageError]:
        """What [`_read`] gives for the images of a batch, or why it cannot."""
        read: list[tuple[str, Tensor] | ImageError] = []
        for number, image in enumerate(images[start : start + self.batch_size], start):
            try:
                read.append(self._read(image, number))
            except ImageError as error:
                read.append(error)
        return read

    def _tag_readable(self, read: Sequence[tuple[str, Tensor] | ImageError]) -> list[TaggedImage]:
        """Tags a batch; an image that cannot be read keeps its place and says why."""
        good = [one for one in read if not isinstance(one, ImageError)]
        found = iter(self._tag(good) if good else [])
        return [
            TaggedImage(one.name, [], [], error=one.reason) if isinstance(one, ImageError) else next(found)
            for one in read
        ]
