"""What is evaluated and calibrated; imports nothing heavy, so that the command shows its help at once."""

from dataclasses import dataclass, field
from pathlib import Path

from assocformer_hf.data.readers.options import BAD_IMAGES
from assocformer_hf.option_values import OptionError, require

PRECISIONS = ("no", "fp16", "bf16", "fp8")  # of Accelerate
GOALS = ("f1", "precision", "recall")
MIN_POSITIVES = 50  # below, own thresholds cost CF1 on held-out images of `scenes`


@dataclass
class EvaluationArguments:
    """What to evaluate, and on what."""

    model: str = field(metadata={"help": "Folder or Hub id of a trained AssocFormer."})
    dataset: str | None = field(
        default=None,
        metadata={"help": "scenes, coco, voc, a file or folder, or a Hub id. Default: what the model was trained on."},
    )
    data_dir: str | None = field(default=None, metadata={"help": "Folder of the official files, or of the images."})
    split: str | None = field(
        default=None, metadata={"help": "Default: the benchmark's evaluation split, or validation."}
    )
    batch_size: int = field(default=32, metadata={"help": "Images in a batch of one process."})
    num_workers: int = field(default=2, metadata={"help": "Processes that load images, for each process."})
    bad_images: str = field(default="error", metadata={"help": "Images that cannot be read: error, or skip."})
    mixed_precision: str | None = field(default=None, metadata={"help": "no, fp16, bf16 or fp8."})

    def __post_init__(self):
        require(
            vars(self),
            at_least={"batch_size": 1, "num_workers": 0},
            one_of={"bad_images": BAD_IMAGES, "mixed_precision": PRECISIONS},
        )


@dataclass
class CalibrationOptions:
    """What to choose the thresholds for, and where the model goes."""

    output: Path = field(metadata={"help": "New folder for the model."})
    goal: str = field(default="f1", metadata={"help": "f1, precision or recall."})
    value: float | None = field(default=None, metadata={"help": "The precision or recall to reach, such as 0.9."})
    per_label: bool = field(default=False, metadata={"help": "A threshold for each label, rather than one for all."})
    min_positives: int = field(
        default=MIN_POSITIVES, metadata={"help": "Labels with fewer images share the threshold of all together."}
    )
    scaling: bool = field(default=True, metadata={"help": "Whether to scale the scores to probabilities."})
    folds: int = field(default=5, metadata={"help": "Folds of the cross-validation."})

    def __post_init__(self):
        require(vars(self), at_least={"min_positives": 0, "folds": 2})
        require_goal(self.goal, self.value)


def require_goal(goal: str, value: float | None) -> None:
    """Refuses a goal of thresholds that is unknown, or a value that does not go with it.

    Raises:
        OptionError: in either case.
    """
    require({"goal": goal}, one_of={"goal": GOALS})
    if goal == "f1" and value is not None:
        raise OptionError(f"the goal f1 takes no value, got {value}")
    if goal != "f1" and (value is None or not 0 < value <= 1):
        raise OptionError(f"the goal {goal} needs a value above 0 and up to 1, such as 0.9; got {value}")
