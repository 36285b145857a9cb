"""Why images got their labels, as figures and data."""

import json
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from assocformer_hf.data.identity import image_digests
from assocformer_hf.data.images.decoding import ImageError, decode_stored, stored_name
from assocformer_hf.data.load import load_images
from assocformer_hf.data.schema import DataError
from assocformer_hf.evaluation.association_worth import is_worth_showing, worth_sentence
from assocformer_hf.inference.options import ExplainOptions
from assocformer_hf.inference.tagger import Tagger
from assocformer_hf.interpretation.association_map import is_flat, plot_association_map
from assocformer_hf.interpretation.explanation import ImageExplanation, plot_explanation, plot_places
from assocformer_hf.interpretation.location import METHODS, locate, require_labels
from assocformer_hf.output_folder import OutputError, OutputFolder

DATA_FILE = "explanations.json"
NAME_LENGTH = 40  # characters that a figure has of its image's name: file systems take 255 bytes


def explain(options: ExplainOptions) -> list[ImageExplanation]:
    """Explains images and writes, for each, a figure and its matrices; of all `explanations.json`.

    The map of an image's A is drawn for models whose A is worth it, see [`is_worth_showing`].

    An image that cannot be read is left out, and named at the end.

    Raises:
        DataError: if the model cannot be explained so.
        ImageError: if none of the images can be read.
        OutputError: if files of others, or explanations of other images, would be replaced.
    """
    tagger = Tagger(options.model)
    require_labels(tagger.model.config, options.labels or [])
    attends = tagger.model.config.pooling == "attention"
    if options.where == "attention" and not attends:
        raise DataError(f'{options.model}: where="attention" needs pooling="attention"; use {", ".join(METHODS)}')
    where = options.where
    if where == "auto" and not attends:
        where = "occlusion" if find_spec("captum") else "none"
    worth = tagger.association_worth
    dataset = load_images(options.images, options.image_column, options.data_dir)
    dataset = dataset.select(range(min(len(dataset), options.max_images)))
    digests = [f"{digest:016x}" for digest in image_digests(dataset)]
    output = OutputFolder(options.output, options.overwrite)
    _refuse_others(output, digests)
    explanations, results, unreadable = [], [], []
    with output.replacing("explanations") as folder:
        for i, (stored, digest) in enumerate(zip(dataset["image"], digests, strict=True)):
            name = stored_name(stored, i)
            try:
                image = decode_stored(stored, i)
            except ImageError as error:
                unreadable.append(error)
                continue
            explanation = tagger.explain(image, options.labels)
            print(name, *explanation.labels, sep="\n")
            explanations.append(explanation)
            results.append({"file": name, "digest": digest} | explanation.to_dict())

            heat = {} if where == "none" else None  # none given: the explanation's own places
            if where in METHODS:
                pixels = tagger.processor(image, return_tensors="pt")["pixel_values"].to(tagger.device)
                labels = [one.label for one in explanation.labels]
                heat = {label: locate(tagger.model, pixels, label, where) for label in labels}
            stem = folder / f"{i:04d}_{Path(name).stem.replace(' ', '_')[:NAME_LENGTH]}"
            plot_explanation(image, explanation, f"{stem}.png", heat)
            matrices: dict[str, Any] = {}
            if explanation.association is not None:
                matrices |= {"association": explanation.association, "contributions": explanation.contributions}
                if is_worth_showing(worth) and not is_flat(explanation.association):
                    path, title = f"{stem}_association.png", f"A of {Path(name).name}"
                    plot_association_map(explanation.association, explanation.label_names, path, title)
            if attends:
                matrices["places"] = explanation.places
                plot_places(image, explanation, f"{stem}_places.png")
            np.savez_compressed(f"{stem}.npz", label_names=explanation.label_names, **matrices)
        if unreadable and not explanations:
            raise unreadable[0]
        content = json.dumps(results, indent=2, ensure_ascii=False)
        (folder / DATA_FILE).write_text(content, encoding="utf-8")
    if tagger.model.config.fusion != "linear":
        print(worth_sentence(worth))
    if unreadable:
        print(f"left out: {'; '.join(map(str, unreadable))}", file=sys.stderr)
    print(f"figures and data: {options.output}")
    return explanations


def _refuse_others(output: OutputFolder, digests: Sequence[str]):
    """Refuses to replace explanations of images that are not explained anew, whatever their names."""
    file = output.path / DATA_FILE
    if output.overwrite or DATA_FILE not in output.owned("explanations") or not file.is_file():
        return
    earlier = json.loads(file.read_text(encoding="utf-8"))
    if others := [row["file"] for row in earlier if row.get("digest") not in digests]:
        raise OutputError(
            f"{output}: holds explanations of other images, such as {others[0]}; choose another --output, or replace "
            "them with --overwrite"
        )
