"""Evaluate a saved model: `accelerate launch examples/evaluate.py --model FOLDER --dataset coco --data_dir DIR`."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from accelerate import Accelerator
from torch.utils.data import DataLoader
from transformers import AutoImageProcessor

from assocformer_hf import AssocFormerForMultiLabel
from assocformer_hf.command_line import one_line_errors, parse_arguments
from assocformer_hf.data.forms import SourceOptions
from assocformer_hf.data.images import MultiLabelCollator, MultiLabelImages
from assocformer_hf.data.load import DEFAULT_SPLITS, load_split
from assocformer_hf.data.schema import DataError, label_names
from assocformer_hf.data.transforms import evaluation_transform
from assocformer_hf.evaluation.evaluator import evaluate
from assocformer_hf.evaluation.report import evaluation_report, metrics_table


@dataclass
class Arguments:
    """What to evaluate, and on what."""

    model: str = field(metadata={"help": "Folder or Hub id of a trained AssocFormer."})
    dataset: str = field(default="scenes", metadata={"help": "scenes, coco, voc, a file or folder, or a Hub id."})
    data_dir: str | None = field(default=None, metadata={"help": "Folder of the official files, or of the images."})
    split: str | None = field(
        default=None, metadata={"help": "Default: the benchmark's evaluation split, or validation."}
    )
    batch_size: int = field(default=32, metadata={"help": "Images in a batch of one process."})
    num_workers: int = field(default=2, metadata={"help": "Processes that load images, for each process."})
    bad_images: str = field(default="error", metadata={"help": "Images that cannot be read: error, or skip."})
    mixed_precision: str | None = field(default=None, metadata={"help": "no, fp16 or bf16."})
    output: Path | None = field(default=None, metadata={"help": "JSON file for the metrics."})


def main():
    args, source = parse_arguments([Arguments, SourceOptions])
    accelerator = Accelerator(mixed_precision=args.mixed_precision)
    model = AssocFormerForMultiLabel.from_pretrained(args.model).to(accelerator.device)
    processor = AutoImageProcessor.from_pretrained(args.model)

    trained = list(model.config.id2label.values())
    own = {} if args.dataset in DEFAULT_SPLITS else asdict(source) | {"label_names": source.label_names or trained}
    _, default_split = DEFAULT_SPLITS.get(args.dataset, ("train", "validation"))
    dataset = load_split(args.dataset, args.split or default_split, args.data_dir, **own)
    names = label_names(dataset)
    if names != trained:
        raise DataError(f"{args.model} was trained on other labels than those of {args.dataset}; use its own dataset")

    images = MultiLabelImages(
        dataset, evaluation_transform(processor), min_side=processor.size["height"], bad_images=args.bad_images
    )
    loader = accelerator.prepare(
        DataLoader(
            images,
            args.batch_size,
            collate_fn=MultiLabelCollator(len(names), with_index=True),
            num_workers=args.num_workers,
        )
    )
    evaluation = evaluate({"model": model}, loader, accelerator)["model"]
    metrics = evaluation_report(evaluation, names)
    if accelerator.is_main_process:
        for index in evaluation.unreadable:
            print(f"{images.name(index)}: cannot be read as an image; left out")
        print(metrics_table(metrics))
        if args.output:
            args.output.parent.mkdir(parents=True, exist_ok=True)
            args.output.write_text(json.dumps(metrics, indent=2, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    with one_line_errors():
        main()
