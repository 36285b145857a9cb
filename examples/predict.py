"""Tag images: `python examples/predict.py --model FOLDER --images DIR_OR_FILES`; a table, and JSON on request."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoImageProcessor

from assocformer_hf import AssocFormerForMultiLabel
from assocformer_hf.command_line import one_line_errors, parse_arguments
from assocformer_hf.data.decoding import ImageError, decode_image
from assocformer_hf.data.schema import DataError

SUFFIXES = set(Image.registered_extensions())


@dataclass
class Arguments:
    """What to tag, and with what."""

    model: str = field(metadata={"help": "Folder or Hub id of a trained AssocFormer."})
    images: list[Path] = field(metadata={"help": "Image files, or folders of them."})
    threshold: float | None = field(default=None, metadata={"help": "Default: the model's own threshold(s)."})
    batch_size: int = field(default=32, metadata={"help": "Images that go through the model together."})
    output: Path | None = field(default=None, metadata={"help": "JSON file for the labels and all scores."})


def find_images(paths: list[Path]) -> list[Path]:
    """The image files named, and those in the folders named, in the order of their names."""
    files = []
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: no such file or folder")
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        if not found:
            raise DataError(f"{path}: no image files in this folder")
        files += found
    return files


def read_image(path: Path, min_side: int) -> Image.Image | None:
    """The image; None, with a line on standard error, where the file cannot be read as one."""
    try:
        return decode_image(path, min_side=min_side)
    except ImageError as error:
        print(f"{path}: cannot be read as an image ({error.reason}); left out", file=sys.stderr)
        return None


@torch.inference_mode()
def main():
    (args,) = parse_arguments([Arguments])
    files = find_images(args.images)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AssocFormerForMultiLabel.from_pretrained(args.model).to(device).eval()
    processor = AutoImageProcessor.from_pretrained(args.model)
    names = model.config.id2label
    own = args.threshold if args.threshold is not None else model.config.label_thresholds or model.config.threshold
    thresholds = torch.as_tensor(own).expand(len(names))

    results = []
    for start in range(0, len(files), args.batch_size):
        opened = [(file, read_image(file, processor.size["height"])) for file in files[start : start + args.batch_size]]
        batch = [(file, image) for file, image in opened if image is not None]
        if not batch:
            continue
        inputs = processor(images=[image for _, image in batch], return_tensors="pt").to(device)
        for (file, _), scores in zip(batch, model(**inputs).logits.sigmoid().cpu(), strict=True):
            scored = {names[i]: scores[i].item() for i in scores.argsort(descending=True).tolist()}
            labels = [name for name, score in scored.items() if score >= thresholds[model.config.label2id[name]]]
            results.append({"file": str(file), "labels": labels, "scores": scored})
            print(file, ", ".join(f"{label} {scored[label]:.2f}" for label in labels) or "-", sep="\t")
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(results, indent=2, ensure_ascii=False), encoding="utf-8")
    if len(results) < len(files):
        raise DataError(f"{len(files) - len(results)} of {len(files)} files could not be read as images (named above)")


if __name__ == "__main__":
    with one_line_errors():
        main()
