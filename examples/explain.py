"""Say why images got their labels: `python examples/explain.py --model FOLDER --images FILES_OR_DIR --output OUT`.

For each image a figure, `NAME.png`, the map of its A, `NAME_association.png`, and the matrices A and E, `NAME.npz`; of
all together `explanations.json`.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from transformers import AutoImageProcessor

from assocformer_hf import AssocFormerForMultiLabel
from assocformer_hf.command_line import one_line_errors, parse_arguments
from assocformer_hf.data.images.decoding import decode_image
from assocformer_hf.data.load import load_images
from assocformer_hf.interpretation.association_map import plot_association_map
from assocformer_hf.interpretation.explanation import explain_image, plot_explanation
from assocformer_hf.interpretation.location import METHODS, locate
from assocformer_hf.output_folder import OutputFolder


@dataclass
class Arguments:
    """What to explain, and with what."""

    model: str = field(metadata={"help": "Folder or Hub id of a trained AssocFormer."})
    images: list[str] = field(metadata={"help": "Image files, folders of them, tables, or datasets."})
    output: Path = field(default=Path("outputs/explanations"), metadata={"help": "Folder for figures and data."})
    labels: list[str] | None = field(default=None, metadata={"help": "Labels to explain. Default: those predicted."})
    where: str = field(
        default="none", metadata={"help": f"Map of the places in the image: none, {', '.join(METHODS)}."}
    )
    max_images: int = field(default=100, metadata={"help": "How many images are explained at most."})


def main():
    (args,) = parse_arguments([Arguments])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AssocFormerForMultiLabel.from_pretrained(args.model).to(device).eval()
    processor = AutoImageProcessor.from_pretrained(args.model)
    dataset = load_images(args.images)
    with OutputFolder(args.output).replacing("explanations") as folder:
        results = []
        for i, stored in enumerate(dataset.select(range(min(len(dataset), args.max_images)))["image"]):
            name = stored["path"] or f"image {i}"
            image = decode_image(stored["path"] if stored["bytes"] is None else stored["bytes"], name)
            pixel_values = processor(images=image, return_tensors="pt")["pixel_values"].to(device)
            explanation = explain_image(model, pixel_values, args.labels)
            print(name, *explanation.labels, sep="\n")

            heat = {}
            if args.where != "none":
                heat = {one.label: locate(model, pixel_values, one.label, args.where) for one in explanation.labels}
            stem = folder / f"{i:04d}_{Path(name).stem.replace(' ', '_')}"
            plot_explanation(image, explanation, f"{stem}.png", heat)
            title = f"A of {Path(name).name}"
            plot_association_map(explanation.association, explanation.label_names, f"{stem}_association.png", title)
            matrices = {"association": explanation.association, "contributions": explanation.contributions}
            np.savez_compressed(f"{stem}.npz", label_names=explanation.label_names, **matrices)
            results.append({"file": name} | explanation.to_dict())
        content = json.dumps(results, indent=2, ensure_ascii=False)
        (folder / "explanations.json").write_text(content, encoding="utf-8")
    print(f"figures and data: {args.output}")


if __name__ == "__main__":
    with one_line_errors():
        main()
