"""Configuration of AssocFormer: a backbone, the association head, the loss and the decision thresholds."""

import copy
import math
import numbers
from collections.abc import Mapping, Sequence

from transformers import AutoConfig, PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

READOUTS = ("per_label", "shared")
FUSIONS = ("equal", "association", "learnable", "linear")
POOLINGS = ("mean", "attention")
ASSOCIATION_NORMS = ("l2", "l1", "l1_l2", "nuclear", "none")
RANDOM_MODELS = ("vit_mae",)
PAPER_BACKBONE = {
    "model_type": "timm_wrapper",
    "architecture": "swin_large_patch4_window12_384",
    "num_classes": 0,
    "label_names": [],
}


class ConfigurationError(ValueError):
    """A value that a model cannot be built with: the message names it and the values it can take."""


class AssocFormerConfig(PreTrainedConfig):
    """Configuration of [`AssocFormerForMultiLabel`]. The defaults are the paper's.

    Args:
        backbone_config: configuration of the vision backbone, as an object or a dict with `model_type`. Default: the
            paper's Swin-L at 384x384 from timm. The backbone's own class names are dropped.
        image_size: side of the square input in pixels, where it differs from what `backbone_config` says; the position
            and window tables of timm models are interpolated to it.
        num_labels: number of labels C, where the labels have no names (they become `LABEL_0`, ...).
        id2label: the names of the labels by index; sets C.
        association_kernel_size: odd kernel size k of the two convolutions of eq. 4.
        readout: eq. 6 with one weight vector for each label (`"per_label"`) or one for all (`"shared"`, for research:
            it sees the image only through a handful of numbers).
        fusion: eq. 7: `"equal"` (1/2, 1/2), `"association"` (1, 0), `"learnable"` (a parameter, 1) or `"linear"`
            (0, 1), the paper's baseline without the association module.
        pooling: what N2 of eq. 7 reads: `"mean"`, the backbone's pooled feature L as in the paper, or `"attention"`,
            the feature map with class-specific residual attention (Zhu & Wu, ICCV 2021), which has no parameter more
            and says exactly where in the image each label was seen. A is of L in both.
        attention_weight: lambda of the attention, at least 0.
        attention_temperature: T of the attention, at least 0; the larger, the narrower each label looks.
        gamma_pos: focusing exponent of the positive labels in eq. 8, at least 0.
        gamma_neg: focusing exponent of the negative labels in eq. 8, at least 0.
        clip: probability margin of the ASL paper, in [0, 1); 0 is eq. 8.
        association_norm: the norm of A in eq. 9: `"l2"` (Frobenius), `"l1"` (sum of absolute values), `"l1_l2"` (their
            sum), `"nuclear"` or `"none"`.
        association_weight: theta of eq. 9, at least 0.
        tiled_association: whether A is computed in tiles and never held whole, in the forward and the backward pass; by
            default from 1,024 labels on. The norm `"nuclear"` needs A whole.
        fused_association: whether one loop made by `torch.compile` takes the place of the tiles; where there is no
            compiler, tiles do the work. On a GPU it is faster from some 5,000 labels on, on a CPU the tiles are.
        threshold: probability from which a label is predicted, in [0, 1].
        label_thresholds: one threshold for each label; replaces `threshold` where given.

    Raises:
        ConfigurationError: if a value is out of its range; the message names it and the values it can take.
    """

    model_type = "assocformer"
    sub_configs = {"backbone_config": AutoConfig}
    # The Trainer's predictions are then the logits alone.
    keys_to_ignore_at_inference = [
        "association", "association_sums", "association_logits", "embedding_logits", "association_penalty",
        "hidden_states",
    ]  # fmt: skip

    backbone_config: PreTrainedConfig | dict | None = None
    image_size: int | None = None
    association_kernel_size: int = 3
    readout: str = "per_label"
    fusion: str = "equal"
    pooling: str = "mean"
    attention_weight: float | int = 1.0
    attention_temperature: float | int = 1.0
    gamma_pos: float | int = 0
    gamma_neg: float | int = 2
    clip: float | int = 0
    association_norm: str = "l2"
    association_weight: float | int = 0.1
    tiled_association: bool | None = None
    fused_association: bool = False
    threshold: float | int = 0.5
    label_thresholds: list[float] | None = None
    problem_type: str = "multi_label_classification"

    @classmethod
    def from_dict(cls, config_dict: dict, **kwargs) -> "AssocFormerConfig":
        """A configuration from a dictionary; values given beside it replace its own, and are checked like them.

        A `threshold` given so is for all labels, in place of their own thresholds.

        Raises:
            ConfigurationError: if the dictionary is that of another model, a value is out of its range, or the labels
                are those of the dictionary in another order.
        """
        if config_dict.get("model_type") != cls.model_type and "backbone_config" not in config_dict:
            kind = config_dict.get("model_type") or config_dict.get("architecture")
            raise ConfigurationError(
                f"this is a {kind} model, not an AssocFormer; AssocFormerForMultiLabel.from_backbone takes it as a "
                "backbone and adds a fresh head"
            )
        own = {"id2label", "label2id", *cls.__annotations__} - {"backbone_config"}
        changes = {name: kwargs.pop(name) for name in own & kwargs.keys()}
        if changes.get("id2label") is not None:
            changes["id2label"] = _numbered(changes["id2label"], kwargs.get("num_labels"))
        unnamed = {0: "LABEL_0", 1: "LABEL_1"}  # which transformers does not write down
        before = {int(i): name for i, name in (config_dict.get("id2label") or unnamed).items()}
        names = changes.get("id2label") or {i: name for name, i in (changes.get("label2id") or {}).items()}
        names = {int(i): name for i, name in names.items()}
        count = kwargs.get("num_labels") or len(names or before)
        _refuse_another_order(before, names)
        if count != len(before):
            config_dict = config_dict | {"threshold": cls.threshold}  # it was chosen for the other labels
        if count != len(before) or (names and names != before):
            config_dict = config_dict | {"label_thresholds": None}  # they are of the other labels
        if "threshold" in changes:
            config_dict = config_dict | {"label_thresholds": None}  # it is for all labels
        if names or count != len(before):
            config_dict = {name: value for name, value in config_dict.items() if name not in ("id2label", "label2id")}
        return super().from_dict(config_dict | changes, **kwargs)

    def __setattr__(self, name: str, value):
        if name == "id2label" and value is not None:  # some versions of transformers check that it is a dictionary
            value = _numbered(value, None)
        super().__setattr__(name, _plain(value) if name in AssocFormerConfig.__annotations__ else value)
        if name == "id2label" and value is not None:
            self.label2id = {label: i for i, label in value.items()}

    def __post_init__(self, **kwargs):
        self.backbone_config = _as_config(PAPER_BACKBONE if self.backbone_config is None else self.backbone_config)
        if self.backbone_config.model_type in RANDOM_MODELS:
            raise ConfigurationError(
                f"{self.backbone_config.model_type} hides most of an image at random, in inference too; take the same "
                "weights from timm, such as timm/vit_base_patch16_224.mae"
            )
        self.backbone_config.num_labels = 0
        self.backbone_config._name_or_path = ""  # a folder of somebody's machine; the weights are in the model
        if self.id2label is not None:
            self.id2label: dict[int, str] = _numbered(self.id2label, kwargs.get("num_labels"))
        elif self.label2id:
            self.id2label = _numbered({i: name for name, i in self.label2id.items()}, kwargs.get("num_labels"))
        super().__post_init__(**kwargs)
        # A tool that sorts the keys of JSON puts "10" before "2".
        self.id2label = dict(sorted(self.id2label.items()))
        self.check_values()

    def save_pretrained(self, *args, **kwargs) -> None:
        """As transformers'.

        Raises:
            ConfigurationError: naming a value that does not fit, before anything is written.
        """
        self.check_values()
        super().save_pretrained(*args, **kwargs)

    @property
    def label_names(self) -> list[str]:
        """The labels in the order of the logits."""
        return [self.id2label[i] for i in range(self.num_labels)]

    @property
    def thresholds(self) -> list[float]:
        """The probability from which each label is predicted, `(labels,)`: its own, or `threshold`."""
        return list(self.label_thresholds or [self.threshold] * len(self.id2label))

    def check_values(self) -> None:
        """Refuses values that are out of their range, also those that were set after the configuration was made.

        Raises:
            ConfigurationError: naming the first such value and what it can be.
        """
        _check_choice("readout", self.readout, READOUTS)
        _check_choice("fusion", self.fusion, FUSIONS)
        _check_choice("association_norm", self.association_norm, ASSOCIATION_NORMS)
        _check_choice("pooling", self.pooling, POOLINGS)
        if self.pooling == "attention" and self.fusion == "association":
            raise ConfigurationError(
                'pooling="attention" is of N2, which fusion="association" leaves out; use another fusion, or "mean"'
            )
        _check_choice("problem_type", self.problem_type, ("multi_label_classification",))
        k = self.association_kernel_size
        if not isinstance(k, int) or k < 1 or k % 2 == 0:
            raise ConfigurationError(f"association_kernel_size must be odd, such as 1, 3 or 5; got {k!r}")
        check_image_size(self.image_size)
        _check_range("gamma_pos", self.gamma_pos)
        _check_range("gamma_neg", self.gamma_neg)
        _check_range("association_weight", self.association_weight)
        _check_range("attention_weight", self.attention_weight)
        _check_range("attention_temperature", self.attention_temperature)
        _check_range("clip", self.clip, upper=1)
        if self.clip == 1:
            raise ConfigurationError("clip must be below 1: a margin of 1 would leave no loss on the negative labels")
        _check_range("threshold", self.threshold, upper=1)
        names = list(self.id2label.values())
        if not names:
            raise ConfigurationError("num_labels must be at least 1, got 0; pass id2label or num_labels")
        if unnamed := [name for name in names if not isinstance(name, str) or not name.strip()]:
            raise ConfigurationError(f"id2label names a label {unnamed[0]!r}; every label needs a name, as text")
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ConfigurationError(f"id2label names {twice!r} more than once; every label needs a name of its own")
        if sorted(self.id2label) != list(range(len(names))):
            raise ConfigurationError(
                f"id2label must number the labels 0 to {len(names) - 1}, got {sorted(self.id2label)}"
            )
        if self.label_thresholds is not None:
            if len(self.label_thresholds) != len(names):
                raise ConfigurationError(
                    f"label_thresholds must have one value for each of the {len(names)} labels, "
                    f"got {len(self.label_thresholds)}"
                )
            for name, value in zip(names, self.label_thresholds, strict=True):
                _check_range(f"label_thresholds[{name!r}]", value, upper=1)


def check_image_size(size: int | None) -> None:
    """Refuses what is no number of pixels.

    Raises:
        ConfigurationError: naming it.
    """
    if size is not None and (not isinstance(size, numbers.Integral) or size < 1):
        raise ConfigurationError(f"image_size must be at least 1, got {size!r}")


def _numbered(names: Mapping | Sequence[str], count: int | None) -> dict:
    """Names of labels by their numbers; a list has them in order.

    Raises:
        ConfigurationError: if they are no names, or not as many as given beside them.
    """
    if isinstance(names, str) or not isinstance(names, (Mapping, Sequence)):
        raise ConfigurationError(
            f"id2label must be a list of names, or a dict of names by their numbers; got {names!r}"
        )
    names = dict(names) if isinstance(names, Mapping) else dict(enumerate(names))
    if count is not None and count != len(names):
        raise ConfigurationError(
            f"num_labels is {count}, and the number of labels that have names is {len(names)}; leave out num_labels"
        )
    return names


def _refuse_another_order(before: Mapping[int, str], names: Mapping[int, str]):
    """Raises ConfigurationError where labels keep their names and change places: the weights know the places alone."""
    moved = next((i for i, name in names.items() if before.get(i) != name), None)
    if moved is not None and sorted(map(str, names.values())) == sorted(map(str, before.values())):
        raise ConfigurationError(
            f"id2label has the model's labels in another order: {moved} is {before.get(moved)!r} in the model, and "
            f"{names[moved]!r} here; leave id2label out, and take the order from config.label_names"
        )


def _plain(value):
    """A value without the types of NumPy and torch, which JSON does not know."""
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value.tolist() if hasattr(value, "tolist") else value


def _as_config(backbone_config):
    """A configuration object of the backbone that the caller's copy does not share."""
    if isinstance(backbone_config, AssocFormerConfig):
        raise ConfigurationError(
            "backbone_config is that of an AssocFormer; AssocFormerForMultiLabel.from_backbone takes its backbone"
        )
    if isinstance(backbone_config, PreTrainedConfig):
        return _without_classifier(copy.deepcopy(backbone_config))
    model_type = backbone_config.get("model_type") if isinstance(backbone_config, dict) else None
    if model_type not in CONFIG_MAPPING:
        raise ConfigurationError(
            "backbone_config must be a transformers configuration, or a dict whose `model_type` is one that "
            f"transformers knows, such as 'timm_wrapper' or 'cvt'; got {model_type or type(backbone_config).__name__!r}"
        )
    if model_type == "timm_wrapper":  # transformers needs both, and a backbone has neither
        backbone_config = {"num_classes": 0, "label_names": []} | backbone_config
    return _without_classifier(CONFIG_MAPPING[model_type].from_dict(backbone_config))


def _without_classifier(config: PreTrainedConfig) -> PreTrainedConfig:
    """timm's own `save_for_hf` writes the size of the classifier among the arguments of the model."""
    if getattr(config, "model_args", None):
        config.model_args = {name: value for name, value in config.model_args.items() if name != "num_classes"}
    return config


def _check_choice(name, value, choices):
    if value not in choices:
        raise ConfigurationError(f"{name} must be one of {', '.join(choices)}; got {value!r}")


def _check_range(name, value, upper=math.inf):
    if not isinstance(value, numbers.Real) or not 0 <= float(value) <= upper or math.isinf(value):
        limits = "at least 0 and finite" if math.isinf(upper) else f"between 0 and {upper}"
        raise ConfigurationError(f"{name} must be {limits}, got {value!r}")


AssocFormerConfig.register_for_auto_class()
