"""`assocformer check`."""

import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

from assocformer_hf.commands.options import group
from assocformer_hf.data.readers.options import SourceOptions
from assocformer_hf.option_values import require


@dataclass
class CheckOptions:
    """What to check, and where the page goes."""

    dataset: str = field(metadata={"help": "A file or folder, a Hub id, or scenes, coco or voc."})
    output: Path = field(default=Path("data_check.html"), metadata={"help": "Page to write."})
    data_dir: str | None = field(default=None, metadata={"help": "Folder of the images, or of the official files."})
    min_positives: int = field(default=10, metadata={"help": "Name labels with fewer images in train."})
    num_workers: int = field(default=2, metadata={"help": "Processes that decode images."})

    def __post_init__(self):
        require(vars(self), at_least={"min_positives": 0, "num_workers": 0})


def check(
    *, options: group(CheckOptions, "Dataset", 1), source: group(SourceOptions, "How the data are read", 2) = None
) -> None:
    """Look for what is wrong with a dataset, as text and as a page of HTML.

    Exit code 1 if an image cannot be read, or a file is in several splits.
    """
    from assocformer_hf.commands.running import quoted, say_next
    from assocformer_hf.data.checks.check import check_images, check_labels
    from assocformer_hf.data.checks.source import check_source
    from assocformer_hf.data.checks.text import source_lines, text_report
    from assocformer_hf.data.load import dataset_name, load_multilabel_dataset
    from assocformer_hf.output_folder import refuse_file
    from assocformer_hf.pages.check_page import write_check_page
    from assocformer_hf.training.images import augmented_for_check
    from assocformer_hf.wording import counted

    refuse_file(options.output)
    reading = asdict(source or SourceOptions())
    splits = load_multilabel_dataset(options.dataset, options.data_dir, bad_images="skip", **reading)
    print(splits.summary)
    read = check_source(options.dataset, splits, splits.summary)
    print(*source_lines(read), sep="\n")
    labels = check_labels(splits, options.min_positives)
    images = check_images(splits, options.num_workers)
    print(text_report(labels, images))
    name, batch = dataset_name(options.dataset), augmented_for_check(splits["train"], options.dataset)
    write_check_page(name, labels, images, splits, options.output, *batch, read)
    print(f"\nwith plots of the labels: {options.output}")
    wrong = []
    if images.unreadable():
        wrong.append(f"{images.unreadable()} of {counted(images.images, 'image')} cannot be read")
    if across := len(images.across_splits()):
        wrong.append(f"{counted(across, 'file')} {'is' if across == 1 else 'are'} in several splits")
    if wrong:
        print(f"error: {' and '.join(wrong)} (named above)", file=sys.stderr)
        raise SystemExit(1)
    say_next(f"assocformer train --dataset {quoted(options.dataset)} --output outputs/model")
