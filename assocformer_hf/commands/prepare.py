"""`assocformer prepare`."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from assocformer_hf.commands.options import group
from assocformer_hf.data.readers.options import BAD_IMAGES, SourceOptions
from assocformer_hf.option_values import require


@dataclass
class PrepareOptions:
    """What to prepare, and where to."""

    dataset: str = field(metadata={"help": "A file or folder, a Hub id, voc2007, coco2014, scenes, coco or voc."})
    output: Path = field(metadata={"help": "Folder to write."})
    data_dir: str | None = field(default=None, metadata={"help": "Folder of the images, or of the official files."})
    mirror: str | None = field(default=None, metadata={"help": "URL of a folder that holds the official archives."})
    shard_size: int = field(default=1000, metadata={"help": "Images in a Parquet file."})
    num_proc: int = field(default=2, metadata={"help": "Processes."})
    bad_images: str = field(default="error", metadata={"help": "Images that cannot be read: error or skip."})

    def __post_init__(self):
        require(vars(self), at_least={"shard_size": 1, "num_proc": 1}, one_of={"bad_images": BAD_IMAGES})


def prepare(
    *, options: group(PrepareOptions, "Dataset", 1), source: group(SourceOptions, "How the data are read", 2) = None
) -> None:
    """Make any dataset a folder for the Hub; voc2007 and coco2014 are downloaded to data_dir first."""
    from assocformer_hf.commands.running import quoted, say_next
    from assocformer_hf.data.archives import OFFICIAL, fetch
    from assocformer_hf.data.load import dataset_name, load_multilabel_dataset
    from assocformer_hf.data.prepare import write_prepared
    from assocformer_hf.data.schema import DataError
    from assocformer_hf.wording import counted

    dataset = options.dataset
    if dataset in OFFICIAL:
        if options.data_dir is None:
            raise DataError(f"dataset {dataset!r} is downloaded first: say where to as data_dir")
        dataset, archives = OFFICIAL[dataset]
        fetch(archives, options.data_dir, options.mirror)
    reading = asdict(source or SourceOptions()) | {"bad_images": options.bad_images}
    splits = load_multilabel_dataset(dataset, options.data_dir, **reading)
    print(splits.summary)
    rows = write_prepared(
        splits,
        options.output,
        dataset_name(options.dataset),
        options.shard_size,
        options.num_proc,
        options.bad_images,
    )
    written = ", ".join(f"{counted(count, 'image')} in {key}" for key, count in rows.items())
    print(f"{written}: {options.output}")
    say_next(f"hf upload OWNER/NAME {quoted(options.output)} --repo-type dataset --exclude data/_run.json")
