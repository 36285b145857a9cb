"""Export a model to ONNX: `python examples/export_onnx.py --model FOLDER --output model.onnx`."""

from dataclasses import dataclass, field
from pathlib import Path

import onnxruntime
import torch

from assocformer_hf import AssocFormerForMultiLabel, AssocFormerImageProcessor
from assocformer_hf.command_line import one_line_errors, parse_arguments
from assocformer_hf.hub.onnx import export_onnx, quantize_onnx
from assocformer_hf.output_folder import OutputFolder


@dataclass
class Arguments:
    """What to export, and how."""

    model: str = field(metadata={"help": "Folder or Hub id of a trained AssocFormer."})
    output: Path = field(default=Path("model.onnx"), metadata={"help": "ONNX file to write."})
    int8: bool = field(default=False, metadata={"help": "Write an int8 file beside it too: NAME-int8.onnx."})


@torch.inference_mode()
def main():
    (args,) = parse_arguments([Arguments])
    model = AssocFormerForMultiLabel.from_pretrained(args.model).eval()
    size = AssocFormerImageProcessor.from_pretrained(args.model).size["height"]
    output = OutputFolder(args.output.parent)
    with output.replacing(f"export {args.output.name}") as folder:
        files = [folder / args.output.name]
        export_onnx(model, files[0], size)
        if args.int8:
            files.append(files[0].with_stem(f"{files[0].stem}-int8"))
            quantize_onnx(*files)

    images = torch.rand(3, 3, size, size)
    expected = model(images).logits.sigmoid()
    for file in [output.path / file.name for file in files]:
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        (logits,) = session.run(["logits"], {"pixel_values": images.numpy()})
        difference = (torch.from_numpy(logits).sigmoid() - expected).abs().max()
        print(f"{file}: {file.stat().st_size / 2**20:.1f} MiB, scores differ from torch's by {difference:.1e} at most")


if __name__ == "__main__":
    with one_line_errors():
        main()
