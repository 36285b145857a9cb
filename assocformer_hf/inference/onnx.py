"""Models as ONNX files, in float32 and int8, and what runs them on a CPU."""

import copy
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from huggingface_hub.constants import HF_HOME
from PIL.Image import Resampling
from torch import Tensor, nn
from torch.onnx import OnnxExporterError

from assocformer_hf.data.images.decoding import ImageError
from assocformer_hf.data.load import load_images
from assocformer_hf.data.schema import DataError
from assocformer_hf.device import overflows_in_int8
from assocformer_hf.evaluation.trained_model import NO_NUMBERS, load_model_and_processor, model_digest, square_side
from assocformer_hf.inference.images import Source, read_source, spread, spread_images
from assocformer_hf.model.image_processing_assocformer import AssocFormerImageProcessor
from assocformer_hf.model.modeling_assocformer import AssocFormerForMultiLabel
from assocformer_hf.output_folder import OutputFolder

if TYPE_CHECKING:
    import onnx

CACHE = Path(HF_HOME) / "assocformer/onnx"
CACHE_FORMAT = "3"  # of how a file is made; another one makes all files anew
WAIT = 600.0  # seconds for another process to have made the file
CALIBRATION_IMAGES = 256  # more of them change no range that matters
CALIBRATION_BATCH = 16
EXTERNAL_DATA = 2**30


class OnnxModel:
    """A model in onnxruntime on the CPU, with as many threads as torch has.

    It makes `pixel_values` `(batch, 3, height, width)` logits `(batch, labels)`.

    Args:
        path: file of [`export_onnx`] or [`quantize_onnx`].

    Raises:
        ImportError: without the packages of `pip install "assocformer_hf[export]"`.
    """

    def __init__(self, path: str | Path):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # Threads that wait leave their core to those that load images.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.path = Path(path)
        self.session = onnxruntime.InferenceSession(self.path, options, providers=["CPUExecutionProvider"])

    def __call__(self, pixel_values: Tensor) -> Tensor:
        """The logits of a batch."""
        (logits,) = self.session.run(["logits"], {"pixel_values": pixel_values.numpy()})
        return torch.from_numpy(logits)

    def __reduce__(self):
        # A session does not travel to other processes; its file does.
        return OnnxModel, (self.path,)


class _Logits(nn.Module):
    """The part of the model that is exported: images to logits."""

    def __init__(self, model: AssocFormerForMultiLabel):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.model(pixel_values).logits


def export_onnx(
    model: AssocFormerForMultiLabel,
    path: str | Path,
    processor: AssocFormerImageProcessor,
    external_data: int = EXTERNAL_DATA,
) -> None:
    """Writes a model as ONNX: `pixel_values` `(batch, 3, side, side)` to `logits` `(batch, labels)`.

    The batch is free, the side is the processor's. The probabilities are the sigmoid of the logits. What a program has
    to know to use the file, such as the labels and how images are prepared, stands in its `metadata_props` as text.

    Args:
        model: the model; it is exported in evaluation mode and float32, and left as it is.
        path: file to write.
        processor: of the model, whose images are squares.
        external_data: bytes of weights above which they get a file of their own; one ONNX file holds 2 GiB at most.

    Raises:
        ImportError: without the packages of `pip install "assocformer_hf[export]"`.
        DataError: if torch cannot export the backbone, as transformers' Swin with a free batch size.
        ModelFileError: if the processor's images are no squares.
    """
    from onnxscript.ir.passes.common import ClearMetadataAndDocStringPass

    model = copy.deepcopy(model).cpu().float()
    side = square_side(processor)
    try:
        program = torch.onnx.export(
            _Logits(model).eval(),
            (torch.rand(2, 3, side, side),),
            input_names=["pixel_values"],
            output_names=["logits"],
            dynamic_shapes={"pixel_values": {0: torch.export.Dim("batch", min=1)}},
            dynamo=True,
            verbose=False,
        )
    except OnnxExporterError as error:
        kind = type(model.backbone).__name__
        raise DataError(
            f"torch cannot export the backbone {kind} to ONNX; train with another, such as timm's of that name"
        ) from error
    # torch notes at every node from which lines of which files of this machine it came.
    ClearMetadataAndDocStringPass()(program.model)
    program.model.metadata_props.update(_usage(model, processor))
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    program.save(str(path), external_data=size > external_data)


def _usage(model: AssocFormerForMultiLabel, processor: AssocFormerImageProcessor) -> dict[str, str]:
    """What a program that has only the ONNX file must know; numbers and lists are in JSON."""
    factor = processor.rescale_factor if processor.do_rescale else 1.0
    # transformers resizes so where a processor says nothing.
    resample = Resampling.BILINEAR if processor.resample is None else Resampling(processor.resample)
    mean, std = (processor.image_mean, processor.image_std) if processor.do_normalize else (0.0, 1.0)
    return {
        "label_names": json.dumps(model.config.label_names),
        "thresholds": json.dumps(model.config.thresholds),
        "scores": "sigmoid(logits)",
        "input": f"RGB, values 0 to {255 * factor:g}, then minus image_mean and divided by image_std",
        "image_size": json.dumps(square_side(processor)),
        "resize": "the whole image to a square of image_size pixels a side, without crop",
        "resample": resample.name.lower(),
        "rescale_factor": json.dumps(factor),
        "image_mean": json.dumps(np.broadcast_to(mean, 3).tolist()),
        "image_std": json.dumps(np.broadcast_to(std, 3).tolist()),
    }


def is_convolutional(model: AssocFormerForMultiLabel) -> bool:
    """Whether a model computes mostly in convolutions, whose int8 form needs images to measure ranges on."""
    modules = list(model.backbone.modules())
    return sum(isinstance(one, nn.Conv2d) for one in modules) > sum(isinstance(one, nn.Linear) for one in modules)


def calibration_images(processor: AssocFormerImageProcessor, images: Sequence[Source]) -> Tensor:
    """The `pixel_values` of images spread over those given, `(images, 3, height, width)`, for [`quantize_onnx`].

    Args:
        processor: of the model.
        images: as [`~assocformer_hf.Tagger`] takes them; those that cannot be read are left out.

    Raises:
        DataError: if none can be read.
    """
    pixels = []
    for i in spread(len(images), CALIBRATION_IMAGES):
        with suppress(ImageError):
            pixels.append(read_source(images[i], processor, i)[1])
    if not pixels:
        raise DataError(
            "int8: this model's convolutions need images to measure their ranges on; give some that can be read as "
            "calibration"
        )
    return processor(torch.stack(pixels), do_resize=False, return_tensors="pt")["pixel_values"]


def quantize_onnx(path: str | Path, quantized: str | Path, calibration: Tensor | None = None) -> None:
    """Writes a copy of an ONNX file that computes in int8.

    With images the backbone does, up to its last convolution, each channel of its weights with a scale of its own, and
    its activations within the ranges that these images have (static quantisation). Without images only the matrix
    products do, with ranges taken on the fly (dynamic quantisation): right for transformers. On an x86 CPU without VNNI
    the weights get 7 bits, as products of 8 would overflow.

    Args:
        path: file of [`export_onnx`].
        quantized: file to write.
        calibration: `pixel_values` of images like those to come, `(images, 3, image_size, image_size)`.

    Raises:
        ImportError: without the packages of `pip install "assocformer_hf[export]"`.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic, quantize_static

    model = onnx.load(path)
    # The shapes that torch 2.11 notes contradict those that quantisation infers.
    del model.graph.value_info[:]
    if calibration is None:
        # Convolutions are left in float32: their dynamic int8 form is slower than that.
        products = ["MatMul", "Gemm"]
        quantize_dynamic(model, str(quantized), products, per_channel=True, reduce_range=overflows_in_int8())
        return
    quantize_static(
        model,
        str(quantized),
        _CalibrationImages(calibration),
        per_channel=True,
        reduce_range=overflows_in_int8(),
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=_after_the_last_convolution(model.graph),
    )


class _CalibrationImages:
    """Images as onnxruntime's calibration asks for them."""

    def __init__(self, pixel_values: Tensor):
        self.batches: Iterator[Tensor] = iter(pixel_values.split(CALIBRATION_BATCH))

    def get_next(self) -> dict | None:
        batch = next(self.batches, None)
        return None if batch is None else {"pixel_values": batch.numpy()}


def _after_the_last_convolution(graph: "onnx.GraphProto") -> list[str]:
    """Names of the nodes that no convolution of images depends on, but for the activation of the last one: the head."""
    weights = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    needed: set[str] = set()  # values from which convolutions are computed
    last: set[str] = set()  # what the last ones give
    kept = set()
    for node in reversed(graph.node):
        convolves = node.op_type == "Conv" and weights.get(node.input[1]) == 4
        if convolves or needed.intersection(node.output):
            if not needed.intersection(node.output):
                last.update(node.output)
            kept.add(node.name)
            needed.update(node.input)
    return [node.name for node in graph.node if node.name not in kept and not last.intersection(node.input)]


def cached_onnx(
    model: AssocFormerForMultiLabel, processor: AssocFormerImageProcessor, int8: bool, calibration: Tensor | None
) -> Path:
    """The ONNX file of a model, made when it is asked for first, in the cache of Hugging Face (`HF_HOME`).

    The name of its folder there follows from all that it depends on, the weights, the configuration, the processor, the
    calibration images, the versions of the libraries and, in int8, the kind of CPU: a file is never that of another
    model.

    Args:
        model: the model.
        processor: of the model.
        int8: whether it computes in int8.
        calibration: for int8, see [`quantize_onnx`].

    Raises:
        OutputError: if the cache cannot be written to.
        ImportError: without the packages of `pip install "assocformer_hf[export]"`.
    """
    libraries = [f"{name} {version(name)}" for name in ("torch", "transformers", "onnx", "onnxscript", "onnxruntime")]
    usage = _usage(model, processor)
    bits = 32 if not int8 else 7 if overflows_in_int8() else 8
    content = hashlib.sha256(repr([CACHE_FORMAT, libraries, model_digest(model), usage, bits]).encode())
    if calibration is not None:
        content.update(calibration.numpy())
    cache = OutputFolder(CACHE / content.hexdigest())
    file = cache.path / ("model-int8.onnx" if int8 else "model.onnx")
    with cache.locked(WAIT):
        if not file.is_file():
            float32 = cached_onnx(model, processor, False, None) if int8 else None
            with cache.replacing("onnx") as folder:
                if float32 is None:
                    export_onnx(model, folder / file.name, processor)
                else:
                    quantize_onnx(float32, folder / file.name, calibration)
    return file


@torch.inference_mode()
def export_saved_model(
    name_or_path: str, path: str | Path, int8: bool = False, calibration: Sequence[str] = ()
) -> list[tuple[Path, float]]:
    """Writes a saved model as ONNX, and runs it beside torch.

    Args:
        name_or_path: folder or Hub id of the model.
        path: file to write.
        int8: whether to write an int8 copy too, `NAME-int8.onnx`.
        calibration: files or folders of images, which the int8 copy of a convolutional backbone is fitted to.

    Returns:
        Each file, with the largest difference of a score from torch's on random images.

    Raises:
        OutputError: if files of others would be replaced.
        DataError: if there are no images to fit the int8 copy to, or the model gives scores that are no numbers.
        ImportError: without the packages of `pip install "assocformer_hf[export]"`.
    """
    path = Path(path)
    output, group = OutputFolder(path.parent), f"export {path.name}"
    output.make()
    output.refuse_foreign([path.name], group)
    earlier = output.owned(group)
    model, processor = load_model_and_processor(name_or_path)
    size = square_side(processor)
    fitted = None
    if int8 and is_convolutional(model):
        sources = spread_images(load_images(calibration), CALIBRATION_IMAGES) if calibration else []
        fitted = calibration_images(processor, sources)
    images = torch.rand(3, 3, size, size)
    expected = model(images).logits.sigmoid()
    if not expected.isfinite().all():
        raise DataError(f"{name_or_path}: {NO_NUMBERS}")
    found = []
    with output.replacing(group) as folder:
        files = [folder / path.name]
        export_onnx(model, files[0], processor)
        if int8:
            files.append(files[0].with_stem(f"{path.stem}-int8"))
            quantize_onnx(files[0], files[1], fitted)
        for file in files:  # before they take the place of earlier ones
            found.append((output.path / file.name, (OnnxModel(file)(images).sigmoid() - expected).abs().max().item()))
    for name in (name for name in earlier if not (output.path / name).exists()):
        print(f"{output.path / name}: removed, as it was of the earlier export")
    return found
