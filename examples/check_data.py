"""Look for what is wrong with a dataset: `python examples/check_data.py --dataset PATH_OR_ID`; text and HTML."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from assocformer_hf.command_line import one_line_errors, parse_arguments
from assocformer_hf.data.checks.check import check_images, check_labels
from assocformer_hf.data.checks.page import source_lines, text_report
from assocformer_hf.data.checks.source import check_source
from assocformer_hf.data.load import dataset_name, load_multilabel_dataset
from assocformer_hf.data.readers.registry import SourceOptions
from assocformer_hf.data.schema import MissingFilesError
from assocformer_hf.pages.check_page import html_report


@dataclass
class Arguments:
    """What to check."""

    dataset: str = field(metadata={"help": "A file or folder, a Hub id, or scenes, coco or voc."})
    data_dir: str | None = field(default=None, metadata={"help": "Folder of the images, or of the official files."})
    train_split: str | None = field(default=None, metadata={"help": "The dataset's own name of the split to train on."})
    eval_split: str | None = field(default=None, metadata={"help": "The same of the split to evaluate on."})
    min_positives: int = field(default=10, metadata={"help": "Name labels with fewer images in train."})
    num_workers: int = field(default=2, metadata={"help": "Processes that decode images."})
    html: Path = field(default=Path("data_check.html"), metadata={"help": "Page to write."})


def main():
    args, options = parse_arguments([Arguments, SourceOptions])
    try:
        splits = load_multilabel_dataset(
            args.dataset, args.data_dir, args.train_split, args.eval_split, **asdict(options)
        )
    except MissingFilesError as error:
        print(*(f"missing: {file}" for file in error.missing), sep="\n")
        raise
    print(splits.summary)
    print(*source_lines(check_source(args.dataset, splits, splits.summary)), sep="\n")
    labels = check_labels(splits, args.min_positives)
    images = check_images(splits, args.num_workers)
    print(text_report(labels, images))
    html_report(dataset_name(args.dataset), labels, images, splits, args.html)
    print(f"\nwith plots of the labels: {args.html}")
    if images.unreadable():
        raise SystemExit(f"error: {images.unreadable()} of {images.images} images cannot be read (named above)")
    if images.wrong():
        raise SystemExit(f"error: {images.wrong()} files are in several splits (named above)")


if __name__ == "__main__":
    with one_line_errors():
        main()
