"""What images are tagged and explained with; imports nothing heavy, so that the command shows its help at once."""

from dataclasses import dataclass, field
from pathlib import Path

from assocformer_hf.option_values import OptionError, require

PRECISIONS = ("no", "fp16", "bf16")
RUNTIMES = ("torch", "onnx", "onnx-int8")
FILES = (".csv", ".json", ".jsonl", ".parquet")
OTHER_FILES = (  # no names of folders
    ".xlsx", ".xls", ".ods", ".tsv", ".txt", ".html", ".md", ".xml", ".yaml", ".zip", ".jpg", ".jpeg", ".png",
)  # fmt: skip
WHERE = ("auto", "none", "attention", "occlusion", "integrated_gradients")


@dataclass
class PredictOptions:
    """What to tag, and with what."""

    model: str = field(metadata={"help": "Folder or Hub id of a trained AssocFormer."})
    images: list[str] = field(metadata={"help": "Image files, folders of them, tables, or datasets."})
    output: Path | None = field(
        default=None,
        metadata={"help": f"A file ({', '.join(FILES)}), or a folder for Parquet shards. Default: print a table."},
    )
    threshold: float | None = field(default=None, metadata={"help": "Default: the model's own threshold(s)."})
    top_k: int | None = field(default=None, metadata={"help": "Labels of an image at most. Default: no limit."})
    batch_size: int = field(default=32, metadata={"help": "Images that go through the model together."})
    shard_size: int = field(default=1024, metadata={"help": "Images in a shard; what is lost at most by a kill."})
    num_workers: int = field(default=2, metadata={"help": "Processes that load images, for each process."})
    mixed_precision: str | None = field(default=None, metadata={"help": "no, fp16 or bf16."})
    runtime: str = field(
        default="torch",
        metadata={
            "help": f"What computes the scores: {', '.join(RUNTIMES)}. The latter two run on the CPU; int8 is fitted "
            "to the images where the backbone is convolutional."
        },
    )
    image_column: str | None = field(default=None, metadata={"help": "Column of the images in tables and datasets."})
    data_dir: str | None = field(default=None, metadata={"help": "Folder of the images in tables. Default: theirs."})
    overwrite: bool = field(default=False, metadata={"help": "Replace files that this command did not write."})

    def __post_init__(self):
        require(
            vars(self),
            at_least={"top_k": 1, "batch_size": 1, "shard_size": 1, "num_workers": 0},
            between={"threshold": (0, 1)},
            one_of={"mixed_precision": PRECISIONS, "runtime": RUNTIMES},
        )
        if self.output is not None and Path(self.output).suffix.lower() in OTHER_FILES:
            raise OptionError(f"output must be a folder or end in {', '.join(FILES)}; got {str(self.output)!r}")


@dataclass
class ExplainOptions:
    """What to explain, and with what."""

    model: str = field(metadata={"help": "Folder or Hub id of a trained AssocFormer."})
    images: list[str] = field(metadata={"help": "Image files, folders of them, tables, or datasets."})
    output: Path = field(default=Path("outputs/explanations"), metadata={"help": "Folder for figures and data."})
    labels: list[str] | None = field(default=None, metadata={"help": "Labels to explain. Default: those predicted."})
    where: str = field(
        default="auto",
        metadata={
            "help": f"Map of the places in the image: {', '.join(WHERE)}. auto: attention, which is exact, for models "
            "with pooling=attention, else occlusion where captum is installed."
        },
    )
    max_images: int = field(default=100, metadata={"help": "How many images are explained at most."})
    image_column: str | None = field(default=None, metadata={"help": "Column of the images in tables and datasets."})
    data_dir: str | None = field(default=None, metadata={"help": "Folder of the images in tables. Default: theirs."})
    overwrite: bool = field(default=False, metadata={"help": "Replace files that this command did not write."})

    def __post_init__(self):
        require(vars(self), at_least={"max_images": 1}, one_of={"where": WHERE})
