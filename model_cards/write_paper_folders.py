"""Writes the folders of the paper's models, which hold no weights; `--data_dir` is COCO's, for its labels."""

from argparse import ArgumentParser
from pathlib import Path

import torch
from huggingface_hub import ModelCard, ModelCardData

from assocformer_hf import AssocFormerConfig, AssocFormerForMultiLabel
from assocformer_hf.data.images.transforms import create_image_processor
from assocformer_hf.data.readers.coco import load_coco
from assocformer_hf.data.scenes.scenes import voc2007_cooccurrence
from assocformer_hf.data.schema import label_names
from assocformer_hf.hub.model_folder import CITATION, TAGS
from assocformer_hf.model.presets import cvt_w24, swin_large

ROOT = Path(__file__).parent
IMAGE_SIZE = 384
BACKBONES = {
    "swin-large": ("Swin-L", "timm/swin_large_patch4_window12_384.ms_in22k", swin_large),
    "cvt-w24": ("CvT-w24", "microsoft/cvt-w24-384-22k", cvt_w24),
}
DATASETS = {
    "coco": ("COCO 2014", "--dataset coco --data_dir /data/coco"),
    "voc": ("VOC 2007", "--dataset voc --data_dir /data/VOCdevkit"),
}
# Tables 1 and 2 of the paper, and its text for the backbones alone on VOC 2007.
PAPER = {
    ("swin-large", "coco"): {"mAP": 89.8, "baseline": 89.2},
    ("cvt-w24", "coco"): {"mAP": 90.1, "baseline": 88.9},
    ("swin-large", "voc"): {
        "mAP": 96.0,
        "baseline": 95.8,
        "per_label": "99.8 92.7 99.4 99.3 90.3 98.2 94.0 97.2 89.7 99.4 "
        "97.1 86.5 99.3 96.5 89.8 93.1 99.1 94.2 99.6 88.1",
    },
    ("cvt-w24", "voc"): {
        "mAP": 96.2,
        "baseline": 96.0,
        "per_label": "99.8 98.4 99.6 99.2 96.0 98.7 95.8 99.2 94.0 99.4 "
        "96.8 98.2 99.5 99.2 92.2 95.5 99.5 96.7 99.8 97.4",
    },
}


def folder_of(backbone: str, dataset: str) -> Path:
    """Where the folder of a backbone on a dataset lies."""
    return ROOT / f"assocformer-{backbone}-{dataset}"


def paper_card(backbone: str, dataset: str, config: AssocFormerConfig) -> ModelCard:
    """The card of a model without weights; `model-index` is empty, as nothing was evaluated."""
    title, base_model, _ = BACKBONES[backbone]
    dataset_title, options = DATASETS[dataset]
    name = folder_of(backbone, dataset).name
    names = config.label_names
    with torch.device("meta"):
        parameters = AssocFormerForMultiLabel(config).num_parameters()
    paper = dict(PAPER[backbone, dataset])
    if "per_label" in paper:
        values = [float(value) for value in paper["per_label"].split()]
        paper |= {"per_label": dict(zip(names, values, strict=True)), "mean": f"{sum(values) / len(values):.1f}"}
    data = ModelCardData(
        license="apache-2.0",
        library_name="transformers",
        pipeline_tag="image-classification",
        tags=TAGS,
        datasets=[dataset],
        base_model=base_model,
    )
    return ModelCard.from_template(
        data,
        template_path=str(ROOT / "paper_card.md"),
        model_name=name,
        backbone=title,
        base_model=base_model,
        dataset=dataset_title,
        num_labels=len(names),
        parameters=f"{parameters / 1e6:.1f}",
        image_size=IMAGE_SIZE,
        command=f"accelerate launch examples/train.py {options} \\\n    --backbone {base_model} --output {name}",
        paper=paper,
        labels=", ".join(names) + ".",
        threshold=config.threshold,
        citation=CITATION,
    )


def main():
    """Writes the four folders."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", type=Path, required=True, help="Folder of COCO's official files, for its labels.")
    parser.add_argument("--split", default="val2014", help="Any split of it.")
    args = parser.parse_args()
    labels = {"coco": label_names(load_coco(args.data_dir, args.split)), "voc": voc2007_cooccurrence()["labels"]}
    for backbone, dataset in PAPER:
        folder = folder_of(backbone, dataset)
        preset = BACKBONES[backbone][2](IMAGE_SIZE)
        config = AssocFormerConfig(backbone_config=preset, id2label=dict(enumerate(labels[dataset])))
        config.architectures = ["AssocFormerForMultiLabel"]
        folder.mkdir(exist_ok=True)
        config.to_json_file(folder / "config.json")
        create_image_processor(IMAGE_SIZE).to_json_file(folder / "preprocessor_config.json")
        paper_card(backbone, dataset, config).save(folder / "README.md")


if __name__ == "__main__":
    main()
