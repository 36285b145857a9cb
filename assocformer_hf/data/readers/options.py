"""How a dataset is read; imports nothing heavy, so that the command shows its help at once."""

from dataclasses import dataclass, field, fields

from assocformer_hf.option_values import require

BAD_IMAGES = ("error", "skip")  # what is done about images that cannot be read


@dataclass
class SourceOptions:
    """How a dataset is read, where that is not found by itself; options of the command line too."""

    form: str | None = field(
        default=None,
        metadata={
            "help": "table, imagefolder, coco, voc, yolo, label_studio, cvat, shards or hub. Default: found by "
            "what is there."
        },
    )
    image_column: str | None = field(default=None, metadata={"help": "Column of the images. Default: the usual names."})
    label_column: str | None = field(
        default=None, metadata={"help": "Column of the labels, such as objects.category. Default: the usual names."}
    )
    delimiter: str | None = field(default=None, metadata={"help": "What divides labels in a text."})
    label_names: list[str] | None = field(
        default=None, metadata={"help": "The label set, in order. Default: what the dataset declares or holds."}
    )
    train_split: str | None = field(
        default=None,
        metadata={
            "help": "The dataset's own name of the split to train on. Default: train2014 (coco), trainval (voc), else "
            "what is usually called so."
        },
    )
    eval_split: str | None = field(
        default=None,
        metadata={
            "help": "The same of the validation split. Default: val2014 (coco), test (voc), else what is usually "
            "called so."
        },
    )
    test_split: str | None = field(
        default=None, metadata={"help": "The same of the test split. Default: what is usually called so."}
    )
    validation_share: float = field(
        default=0.2, metadata={"help": "Share of the images held out where the dataset has no validation split."}
    )
    split_seed: int = field(default=0, metadata={"help": "Seed of the choice of the images held out."})

    def __post_init__(self):
        require(vars(self), at_least={"split_seed": 0}, between={"validation_share": (0, 1)})

    def given(self) -> list[str]:
        """The names of the options that are not at their defaults."""
        return [option.name for option in fields(self) if getattr(self, option.name) != option.default]
