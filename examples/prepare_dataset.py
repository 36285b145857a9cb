"""Make any dataset a folder for the Hub: `python examples/prepare_dataset.py --dataset PATH_OR_ID --output FOLDER`.

`--dataset voc2007` and `--dataset coco2014` download the official archives to `--data_dir` first.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from assocformer_hf.command_line import one_line_errors, parse_arguments
from assocformer_hf.data.archives import OFFICIAL, fetch
from assocformer_hf.data.load import dataset_name, load_multilabel_dataset
from assocformer_hf.data.prepare import write_prepared
from assocformer_hf.data.readers.registry import SourceOptions
from assocformer_hf.data.schema import DataError


@dataclass
class Arguments:
    """What to prepare, and where to."""

    dataset: str = field(metadata={"help": "A file or folder, a Hub id, voc2007, coco2014, scenes, coco or voc."})
    output: Path = field(metadata={"help": "Folder to write."})
    data_dir: str | None = field(default=None, metadata={"help": "Folder of the images, or of the official files."})
    train_split: str | None = field(default=None, metadata={"help": "The dataset's own name of the split to train on."})
    eval_split: str | None = field(default=None, metadata={"help": "The same of the split to evaluate on."})
    mirror: str | None = field(default=None, metadata={"help": "URL of a folder that holds the official archives."})
    shard_size: int = field(default=1000, metadata={"help": "Images in a Parquet file."})
    num_proc: int = field(default=2, metadata={"help": "Processes."})
    bad_images: str = field(default="error", metadata={"help": "Images that cannot be read: error or skip."})


def main():
    args, options = parse_arguments([Arguments, SourceOptions])
    dataset = args.dataset
    if dataset in OFFICIAL:
        if args.data_dir is None:
            raise DataError(f"dataset {dataset!r} is downloaded first: say where to as data_dir")
        dataset, archives = OFFICIAL[dataset]
        fetch(archives, args.data_dir, args.mirror)
    splits = load_multilabel_dataset(dataset, args.data_dir, args.train_split, args.eval_split, **asdict(options))
    print(splits.summary)
    rows = write_prepared(
        splits, args.output, dataset_name(args.dataset), args.shard_size, args.num_proc, args.bad_images
    )
    print(f"{', '.join(f'{count} images in {key}' for key, count in rows.items())}: {args.output}")
    print(f"upload it: hf upload OWNER/NAME {args.output} --repo-type dataset --exclude data/_run.json")


if __name__ == "__main__":
    with one_line_errors():
        main()
