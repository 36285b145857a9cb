"""The options of a training run, as dataclasses, and the recipes that fill them; the defaults are the paper's."""

import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from assocformer_hf.data.readers.options import BAD_IMAGES, SourceOptions
from assocformer_hf.evaluation.options import PRECISIONS
from assocformer_hf.option_values import OptionError, require, suggestion
from assocformer_hf.wording import one_line

RECIPES = Path(__file__).with_name("recipes")
# By the dataset's name, where no file is named; any other dataset is taken for one's own photographs.
DATASET_RECIPES = {"scenes": "scenes", "coco": "paper", "voc": "paper"}

# What a recipe says of pretrained weights alone.
OF_PRETRAINED = ("head_epochs", "frozen_batch_norm", "backbone_learning_rate", "weight_decay", "head_weight_decay")

# What says how one dataset is read, and is wrong of another.
OF_ONE_DATASET = (
    "data_dir",
    *(option.name for option in fields(SourceOptions) if option.name not in ("validation_share", "split_seed")),
)

# The options of the model that count for nothing where another has a value.
WITHOUT_EFFECT = {
    ("association_norm", "none"): ("association_weight",),
    ("pooling", "mean"): ("attention_weight", "attention_temperature"),
    ("fusion", "linear"): ("association_weight", "association_kernel_size", "readout"),
}

# Of `epochs="auto"`.
IMAGES_SHOWN, FEWEST_EPOCHS, MOST_EPOCHS = 60_000, 4, 30
# Of `head_weight_decay="auto"`.
DECAY_TIMES_IMAGES, LEAST_DECAY, MOST_DECAY = 45_000, 3.0, 100.0


@dataclass
class ModelArguments:
    """The backbone and the association head."""

    backbone: str = field(
        default="timm/swin_large_patch4_window12_384.ms_in22k",
        metadata={
            "help": "Hub id or folder of a pretrained vision backbone, or a preset with random weights: "
            "micro-swin, tiny-swin, tiny-cvt, swin-large, cvt-w24."
        },
    )
    image_size: int = field(default=384, metadata={"help": "Side of the square input in pixels."})
    normalization: str = field(
        default="none",
        metadata={
            "help": "none (values in [0, 1], as in the recipe paper) or backbone (mean and std of its pretraining)."
        },
    )
    fusion: str = field(
        default="equal",
        metadata={
            "help": "How the association module and the linear layer are added, eq. 7: equal (half each), association "
            "(the module alone), learnable, linear (the linear layer alone)."
        },
    )
    readout: str = field(default="per_label", metadata={"help": "Eq. 6: per_label or shared."})
    pooling: str = field(
        default="mean",
        metadata={
            "help": "What the linear part of eq. 7 reads: mean (the paper's pooled feature) or attention (each label "
            "looks at its own places of the feature map)."
        },
    )
    attention_weight: float = field(
        default=1.0, metadata={"help": "Lambda: how much the attention of pooling counts beside the mean of the map."}
    )
    attention_temperature: float = field(
        default=1.0,
        metadata={"help": "How narrowly each label looks, by the attention of pooling: the larger, the narrower."},
    )
    association_kernel_size: int = field(default=3, metadata={"help": "Odd kernel size of eq. 4."})
    association_norm: str = field(default="l2", metadata={"help": "Eq. 9: l2, l1, l1_l2, nuclear or none."})
    association_weight: float = field(default=0.1, metadata={"help": "Theta of eq. 9."})
    gamma_pos: float = field(default=0.0, metadata={"help": "Focusing exponent γ+ of the asymmetric loss, eq. 8."})
    gamma_neg: float = field(default=2.0, metadata={"help": "Focusing exponent γ− of the asymmetric loss, eq. 8."})
    clip: float = field(default=0.0, metadata={"help": "Probability margin of the ASL paper; eq. 8 has none."})

    def __post_init__(self):
        require(vars(self), at_least={"image_size": 1}, one_of={"normalization": ("none", "backbone")})

    def without_effect(self) -> list[str]:
        """What was asked for, other than the default, and changes nothing beside the other options; a line for each."""
        return [
            f"{name}={getattr(self, name)} has no effect with {option}={state}"
            for (option, state), names in WITHOUT_EFFECT.items()
            for name in names
            if getattr(self, option) == state and getattr(self, name) != getattr(ModelArguments, name)
        ]


@dataclass
class DataArguments:
    """The images, and how they are loaded and augmented."""

    dataset: str = field(
        default="scenes", metadata={"help": "scenes (drawn on the spot), coco, voc, a file or folder, or a Hub id."}
    )
    data_dir: str | None = field(default=None, metadata={"help": "Folder of the official files, or of the images."})
    streaming: bool = field(
        default=False,
        metadata={"help": "Read Parquet or tar shards as they are used, here or on the Hub: no copy on the disk."},
    )
    shuffle_buffer: int = field(
        default=1000, metadata={"help": "Images of a stream that each process holds, undecoded, to shuffle them."}
    )
    cutout: float = field(
        default=0.5, metadata={"help": "Side of the square that Cutout hides, as a share of the image's; 0 for none."}
    )
    randaugment_ops: int = field(default=2, metadata={"help": "Operations of RandAugment; 0 for none."})
    randaugment_magnitude: int = field(default=9, metadata={"help": "Strength of RandAugment, 0 to 30."})
    horizontal_flip: float = field(default=0.0, metadata={"help": "Probability of a mirrored training image."})
    bad_images: str = field(
        default="error",
        metadata={"help": "Images that cannot be read: error, or skip (replaced in training, left out of evaluation)."},
    )
    num_workers: int | None = field(
        default=None,
        metadata={"help": "Processes that load images, for each training process. Default: as the cores allow."},
    )

    def __post_init__(self):
        require(
            vars(self),
            at_least={"randaugment_ops": 0, "num_workers": 0, "shuffle_buffer": 1},
            between={"cutout": (0, 1), "randaugment_magnitude": (0, 30), "horizontal_flip": (0, 1)},
            one_of={"bad_images": BAD_IMAGES},
        )


@dataclass
class HubArguments:
    """Whether the trained model is published; the token is that of `hf auth login` or `HF_TOKEN`."""

    push_to_hub: bool = field(default=False, metadata={"help": "Publish the best weights after the training."})
    hub_model_id: str | None = field(default=None, metadata={"help": "Repository: organization/name."})
    hub_private_repo: bool | None = field(default=None, metadata={"help": "Whether a new repository is private."})
    hub_license: str | None = field(
        default=None, metadata={"help": "Licence of the weights for the model's page, such as apache-2.0."}
    )
    hub_sample_images: int = field(
        default=0,
        metadata={"help": "Evaluation images to try the model with on its page; whoever sees it sees them."},
    )

    def __post_init__(self):
        require(vars(self), at_least={"hub_sample_images": 0})
        if self.push_to_hub and not self.hub_model_id:
            raise OptionError("--push_to_hub needs a name for the repository: --hub_model_id organization/name")
        given = [name for name, value in vars(self).items() if value and name != "push_to_hub"]
        if given and not self.push_to_hub:
            raise OptionError(f"--{given[0]} needs --push_to_hub; assocformer publish publishes a trained model later")


@dataclass
class RecipeArguments:
    """How the weights are trained."""

    output_dir: str = field(default="outputs/assocformer", metadata={"help": "Folder of the trained model."})
    epochs: int | Literal["auto"] = field(
        default=40,
        metadata={
            "help": "Passes over the training images; auto: as many as show 60,000 images, at least 4 and at most 30."
        },
    )
    batch_size: int = field(default=16, metadata={"help": "Images in a batch of one process."})
    gradient_accumulation_steps: int | None = field(
        default=None, metadata={"help": "Batches in one optimizer step. Default: what the launcher says, else 1."}
    )
    learning_rate: float = field(default=1e-4, metadata={"help": "Maximum of the 1-cycle schedule."})
    backbone_learning_rate: float | None = field(
        default=None,
        metadata={"help": "Maximum rate of a pretrained backbone, where it shall be lower. Default: learning_rate."},
    )
    head_epochs: int = field(
        default=0,
        metadata={"help": "Epochs in which the head alone is trained first, on features of a pretrained backbone."},
    )
    frozen_batch_norm: bool = field(
        default=False,
        metadata={"help": "Whether batch norm keeps the mean and variance of the backbone's pretraining."},
    )
    pct_start: float = field(default=0.2, metadata={"help": "Share of the schedule in which the rate rises."})
    weight_decay: float = field(default=1e-4, metadata={"help": "Decoupled; none on biases and 1-d parameters."})
    mixup: float = field(default=0.0, metadata={"help": "Alpha of MixUp; 0 for none, the paper's."})
    cutmix: float = field(default=0.0, metadata={"help": "Alpha of CutMix; 0 for none, the paper's."})
    label_smoothing: float = field(
        default=0.0,
        metadata={"help": "ε, below 1: a label of 1 becomes 1−ε/2, one of 0 becomes ε/2; the paper's is 0."},
    )
    teacher: str | None = field(
        default=None,
        metadata={
            "help": "Distillation: folder or Hub id of a trained model of the package, whose scores of the training "
            "images are learned in the place of their labels. With it, gamma_neg 0 makes the scores probabilities."
        },
    )
    head_weight_decay: float | Literal["auto"] | None = field(
        default=None,
        metadata={
            "help": "Weight decay of the head's weights; auto: 45,000 over the number of training images, from 3 to "
            "100. Default: weight_decay; a head start takes auto."
        },
    )
    ema_decay: float = field(default=0.9997, metadata={"help": "Decay of the moving average of the weights."})
    mixed_precision: str | None = field(
        default=None, metadata={"help": "no, fp16, bf16 or fp8. Default: what `accelerate config` or launch says."}
    )
    seed: int = field(default=0, metadata={"help": "Seed of weights, order and augmentation."})
    max_grad_norm: float | None = field(default=None, metadata={"help": "Clip the gradient to this norm."})
    max_skipped_steps: int = field(
        default=25, metadata={"help": "Steps in a row that may be skipped for gradients that are not finite."}
    )
    checkpoint_every: int = field(default=0, metadata={"help": "Optimizer steps between checkpoints within an epoch."})
    keep_checkpoints: int = field(default=2, metadata={"help": "Newest checkpoints that are kept."})
    log_every: int = field(default=10, metadata={"help": "Optimizer steps between the values that trackers get."})
    report_to: str = field(
        default="auto", metadata={"help": "Tracker: auto (tensorboard where installed), none, tensorboard, wandb, all."}
    )
    resume: Literal["auto", "last"] | str | None = field(
        default=None,
        metadata={
            "help": "Go on from the last whole checkpoint in the output folder, or from the one named; with auto, "
            "start where there is none yet."
        },
    )
    overwrite: bool = field(
        default=False,
        metadata={"help": "Replace what an earlier run left in the output folder, and files of the same names."},
    )

    def __post_init__(self):
        found_later = {name: None for name in ("epochs", "head_weight_decay") if getattr(self, name) == "auto"}
        require(
            vars(self) | found_later,
            at_least={
                "epochs": 1, "head_epochs": 0, "batch_size": 1, "gradient_accumulation_steps": 1, "weight_decay": 0,
                "head_weight_decay": 0,
                "mixup": 0, "cutmix": 0, "max_skipped_steps": 0, "checkpoint_every": 0,
                "keep_checkpoints": 1, "log_every": 1,
            },
            above={"learning_rate": 0, "backbone_learning_rate": 0, "max_grad_norm": 0},
            between={
                "pct_start": (0, 1), "ema_decay": (0, 1), "label_smoothing": (0, 0.99), "seed": (0, 2**32 - 1),
            },
            one_of={"mixed_precision": PRECISIONS},
        )  # fmt: skip


ARGUMENTS = (ModelArguments, DataArguments, RecipeArguments, SourceOptions, HubArguments)


def training_arguments(config: str | Path | None = None, **options) -> tuple[Any, ...]:
    """All options of a training: those that are given, over those of a recipe, over the defaults.

    Args:
        config: see [`read_recipe`]; default: the recipe that goes with the dataset.
        options: by their names.

    Returns:
        One object for each class of `ARGUMENTS`, in their order.

    Raises:
        TypeError: if there is no option of a name.
        OptionError: if an option has a value that it cannot have.
    """
    given = converted(options)
    values = recipe_for(options.get("dataset"), options.get("backbone"), config) | given
    names = {owner: {option.name for option in fields(owner)} for owner in ARGUMENTS}
    return tuple(owner(**{name: values[name] for name in names[owner] & values.keys()}) for owner in ARGUMENTS)


def default_recipe(dataset: str | None) -> str:
    """The name of the recipe that goes with a dataset."""
    return DATASET_RECIPES.get(dataset, "photographs")


def recipe_for(dataset: str | None, backbone: str | None, config: str | Path | None = None) -> dict[str, Any]:
    """The options of a recipe, as they suit a dataset and a backbone that are given beside it.

    Random weights get a recipe of the package for fine-tuning, one with a head start, without what keeps a pretrained
    backbone from harm. A decay that suits a head of its own is no decay for a whole network either. What a file of
    options says of reading its own dataset does not count for another, and the first process says so; else a file of
    one's own is taken as it is.

    Args:
        dataset: the one given; None for that of the recipe, else scenes.
        backbone: the one given; None for that of the recipe.
        config: see [`read_recipe`]; default: the recipe that goes with the dataset.

    Raises:
        OptionError: as [`read_recipe`].
    """
    recipe = config or default_recipe(dataset or DataArguments.dataset)
    values = read_recipe(recipe)
    if dataset is not None and not _same_dataset(dataset, values.get("dataset", dataset)):
        others = {name: values.pop(name) for name in OF_ONE_DATASET if values.get(name) is not None}
        if others and int(os.environ.get("RANK", "0")) == 0:
            said = ", ".join(f"{name}={value}" for name, value in others.items())
            print(f"note: {recipe}: says how {values['dataset']} is read, which does not count for {dataset}: {said}")
    if values.get("head_epochs") and backbone is not None and str(recipe) in recipe_names():
        from assocformer_hf.model.presets import BACKBONE_PRESETS  # with transformers, which takes seconds

        if backbone in BACKBONE_PRESETS:
            return {name: value for name, value in values.items() if name not in OF_PRETRAINED}
    return values


def _same_dataset(one: str, other: str) -> bool:
    """Whether two names are of one dataset, which may be the same path written in two ways."""
    return one == other or os.path.realpath(one) == os.path.realpath(other)


def recipe_names() -> list[str]:
    """The recipes that come with the package."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def read_recipe(name_or_path: str | Path) -> dict[str, Any]:
    """The options of a recipe of the package, such as `"paper"` or `"photographs"`, or of a YAML file.

    Raises:
        OptionError: if there is no such recipe or file, or it is not one of options.
    """
    packaged = RECIPES / f"{name_or_path}.yaml"
    path = packaged if packaged.is_file() else Path(name_or_path)
    try:
        options = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise OptionError(
            f"config {name_or_path}: {error.strerror}; expected a YAML file or one of {', '.join(recipe_names())}"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise OptionError(f"config {path}: not valid YAML ({one_line(error)})") from error
    if not isinstance(options, dict):
        raise OptionError(f"config {path}: expected `option: value` lines")
    for name, value in options.items():
        if wrong := [item for item in value if not isinstance(item, str)] if isinstance(value, list) else []:
            raise OptionError(f"config {path}: {name}: {wrong[0]!r} is no text, as YAML reads it; put it in quotes")
    try:
        return converted(options)
    except (OptionError, TypeError) as error:
        raise OptionError(f"config {path}: {error}") from error


def converted(options: dict[str, Any]) -> dict[str, Any]:
    """Options in the types of their fields: YAML reads 1e-4 as text, and 1 as a whole number.

    Raises:
        TypeError: if there is no option of a name.
        OptionError: if a value is of another type.
    """
    hints = {name: hint for owner in ARGUMENTS for name, hint in get_type_hints(owner).items()}
    for name in options:
        if name not in hints:
            raise TypeError(f"no option {name!r}{suggestion(str(name), hints)}")
    return {name: _converted(name, value, hints[name]) for name, value in options.items()}


def epochs_for(images: int) -> int:
    """How many epochs `epochs="auto"` means for a number of training images."""
    return min(max(round(IMAGES_SHOWN / images), FEWEST_EPOCHS), MOST_EPOCHS)


def head_decay_for(images: int) -> float:
    """The weight decay that `head_weight_decay="auto"` means for a number of training images.

    As a prior of the weights would: the fewer the images, the more it counts beside them. Over heads on frozen
    features of photographs it is within what their sweeps found best: docs/photographs.md.
    """
    return min(max(DECAY_TIMES_IMAGES / images, LEAST_DECAY), MOST_DECAY)


def _converted(name: str, value: Any, hint: Any) -> Any:
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if value is None and NoneType in kinds:
        return None
    for kind in kinds:
        if get_origin(kind) is Literal:
            if value in get_args(kind):
                return value
            continue
        origin = get_origin(kind) or kind
        if origin is list and isinstance(value, (list, tuple)):
            return [str(item) for item in value]
        if origin is bool and isinstance(value, bool):
            return value
        if origin in (int, float) and isinstance(value, (int, float, str)) and not isinstance(value, bool):
            try:
                number = float(value)
            except ValueError:
                continue
            if origin is float or number.is_integer():
                return origin(number)
        if origin is str and isinstance(value, (str, Path, int, float)) and not isinstance(value, bool):
            return str(value)
    expected = " or ".join(_expected(kind) for kind in kinds)
    way = "; in YAML put it in quotes, if it is a word" if isinstance(value, bool) and str in kinds else ""
    raise OptionError(f"{name} must be {expected}, got {value!r}{way}")


def _expected(kind: Any) -> str:
    """What a type is called in an error."""
    if get_origin(kind) is Literal:
        return " or ".join(get_args(kind))
    return "nothing" if kind is NoneType else getattr(kind, "__name__", str(kind))
