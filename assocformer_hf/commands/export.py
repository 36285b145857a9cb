"""`assocformer export`."""

from dataclasses import dataclass, field
from pathlib import Path

from assocformer_hf.commands.options import group


@dataclass
class ExportOptions:
    """What to export, and how."""

    model: str = field(metadata={"help": "Folder or Hub id of a trained AssocFormer."})
    output: Path = field(default=Path("model.onnx"), metadata={"help": "ONNX file to write, or a folder for it."})
    int8: bool = field(default=False, metadata={"help": "Write an int8 file beside it too: NAME-int8.onnx."})
    calibration: list[str] | None = field(
        default=None,
        metadata={"help": "Images like those to come, which int8 is fitted to where the backbone is convolutional."},
    )


def export(*, options: group(ExportOptions, "Model and file")) -> None:
    """Write a model as ONNX, and say how far its scores are from torch's."""
    from assocformer_hf.commands.main import fail
    from assocformer_hf.commands.running import quoted, say_next
    from assocformer_hf.inference.onnx import export_saved_model
    from assocformer_hf.saved_files import require_model
    from assocformer_hf.wording import shown

    require_model(options.model)
    if options.calibration and not options.int8:
        fail("--calibration is for --int8; give both, or leave it out")
    path = options.output / "model.onnx" if options.output.is_dir() else options.output
    if path.suffix.lower() != ".onnx":
        fail(f"{options.output}: must end in .onnx, or be a folder")
    files = export_saved_model(options.model, path, options.int8, options.calibration or ())
    for file, difference in files:
        size = file.stat().st_size / 2**20
        print(f"{file}: {size:.1f} MiB, scores differ from torch's by {difference:.1e} at most")
    code = f"import onnxruntime; onnxruntime.InferenceSession({shown(files[0][0])!r})"
    say_next(f"python -c {quoted(code)}")
