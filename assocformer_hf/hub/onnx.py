"""Models as ONNX files."""

from pathlib import Path

import torch
from torch import Tensor, nn

from assocformer_hf.model.image_processing_assocformer import AssocFormerImageProcessor
from assocformer_hf.model.modeling_assocformer import AssocFormerForMultiLabel
from assocformer_hf.output_folder import OutputFolder


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


@torch.inference_mode()
def export_saved_model(name_or_path: str, path: str | Path, int8: bool = False) -> list[tuple[Path, float]]:
    """Writes a saved model as ONNX, and runs it beside torch.

    Args:
        name_or_path: folder or Hub id of the model.
        path: file to write.
        int8: whether to write an int8 copy too, `NAME-int8.onnx`.

    Returns:
        Each file, with the largest difference of a score from torch's on random images.

    Raises:
        OutputError: if files of others would be replaced.
        ImportError: without the packages of `pip install "assocformer_hf[export]"`.
    """
    import onnxruntime

    path = Path(path)
    model = AssocFormerForMultiLabel.from_pretrained(name_or_path).eval()
    size = AssocFormerImageProcessor.from_pretrained(name_or_path).size["height"]
    output = OutputFolder(path.parent)
    with output.replacing(f"export {path.name}") as folder:
        files = [folder / path.name]
        export_onnx(model, files[0], size)
        if int8:
            files.append(files[0].with_stem(f"{path.stem}-int8"))
            quantize_onnx(*files)
    images = torch.rand(3, 3, size, size)
    expected = model(images).logits.sigmoid()
    found = []
    for file in [output.path / file.name for file in files]:
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        (logits,) = session.run(["logits"], {"pixel_values": images.numpy()})
        found.append((file, (torch.from_numpy(logits).sigmoid() - expected).abs().max().item()))
    return found
