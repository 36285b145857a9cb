"""Models as ONNX files."""

from pathlib import Path

import torch
from torch import Tensor, nn

from assocformer_hf.model.modeling_assocformer import AssocFormerForMultiLabel


class _Logits(nn.Module):
    """The part of the model that is exported: images to logits."""

    def __init__(self, model: AssocFormerForMultiLabel):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.model(pixel_values).logits


def export_onnx(model: AssocFormerForMultiLabel, path: str | Path, image_size: int):
    """Writes a model as ONNX: `pixel_values` `(batch, 3, image_size, image_size)` to `logits` `(batch, labels)`.

    The batch is free, the image size is fixed. The probabilities are the sigmoid of the logits.

    Args:
        model: the model; it is exported in evaluation mode.
        path: file to write.
        image_size: side of the square input in pixels.

    Raises:
        ImportError: without the packages of `pip install "assocformer_hf[export]"`.
    """
    training = model.training
    try:
        torch.onnx.export(
            _Logits(model).eval(),
            (torch.rand(2, 3, image_size, image_size),),
            str(path),
            input_names=["pixel_values"],
            output_names=["logits"],
            dynamic_shapes={"pixel_values": {0: torch.export.Dim("batch", min=1)}},
            dynamo=True,
            external_data=sum(p.numel() * p.element_size() for p in model.parameters()) > 2**30,
            verbose=False,
        )
    finally:
        model.train(training)


def quantize_onnx(path: str | Path, quantized: str | Path):
    """Writes a copy of an ONNX file whose matrix products run in int8, with the ranges of activations taken on the fly.

    Args:
        path: file of `export_onnx`.
        quantized: file to write.

    Raises:
        ImportError: without the packages of `pip install "assocformer_hf[export]"`.
    """
    from onnxruntime.quantization import quantize_dynamic

    # Convolutions are left in float32: their dynamic int8 form is slower than that.
    quantize_dynamic(str(path), str(quantized), op_types_to_quantize=["MatMul", "Gemm"], per_channel=True)
