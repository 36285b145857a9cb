"""AssocFormer: a vision backbone and the association head, as a transformers model."""

import copy
import difflib
import inspect
import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput
from transformers.utils.versions import require_version

from .association import AssociationHead, AssociationScores, FusionWeight, LabelProjection
from .configuration_assocformer import AssocFormerConfig, ConfigurationError, check_image_size
from .cvt import CvtBackbone
from .losses import association_penalty, association_penalty_from_sums, asymmetric_loss
from .presets import BACKBONE_PRESETS

# What `from_backbone` passes on to `from_pretrained`.
LOADING_OPTIONS = (
    "attn_implementation", "cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token",
    "use_safetensors", "variant",
)  # fmt: skip
CLASS_TOKENS = 2  # at most: one for the class, one for distillation
# 1.0.20 to 1.0.22 crash with Swin, 1.0.23 and 1.0.24 silently give other scores (by up to 0.175), and up to 1.0.30
# tables of small Swins are interpolated wrongly to another input size.
OLDEST_TIMM = "1.0.31"


@dataclass
class AssocFormerOutput(ModelOutput):
    """Output of [`AssocFormerForMultiLabel`]; the scores are `logits.sigmoid()`.

    Args:
        loss: eq. 9, a scalar, where labels were given.
        logits: O of eq. 7, `(batch, labels)`, at least float32.
        association: A of eq. 5, `(batch, labels, labels)`, with `output_association=True`; None for `fusion="linear"`.
        association_sums: sum of the entries of A and sum of their squares, `(batch, 2)`, where A is computed in tiles.
        association_logits: N1 of eq. 6, `(batch, labels)`; None for `fusion="linear"`.
        embedding_logits: N2 of eq. 7, `(batch, labels)`; None for `fusion="association"`.
        features: L, the pooled features `(batch, d)`, with `output_features=True`: what `head.explain` takes.
        places: what each place of the feature map gave to the logits, `(batch, labels, h, w)`, with
            `output_features=True` and `pooling="attention"`: see `explain_places`.
        association_penalty: the norm of A in eq. 9 without its weight, a scalar, where labels were given.
        hidden_states: those of the backbone, with `output_hidden_states=True`.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    association: Tensor | None = None
    association_sums: Tensor | None = None
    association_logits: Tensor | None = None
    embedding_logits: Tensor | None = None
    features: Tensor | None = None
    places: Tensor | None = None
    association_penalty: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None


class AssocFormerForMultiLabel(PreTrainedModel):
    """AssocFormer (Xing et al., BMVC 2022) for multi-label image classification.

    Args:
        config: the configuration.
        backbone: a backbone that was built already, such as a pretrained one; by default it is built from
            `config.backbone_config` with random weights.
    """

    config_class = AssocFormerConfig
    base_model_prefix = "backbone"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    _supports_sdpa = True
    accepts_loss_kwargs = False  # the loss is a mean over the batch: the Trainer shall divide it when it accumulates
    _no_split_modules = ["AssociationHead"]
    _keep_in_fp32_modules_strict = [r"^head\."]  # searched for in the names of weights; backbones have heads too

    def __init__(self, config: AssocFormerConfig, backbone: PreTrainedModel | None = None):
        super().__init__(config)
        config.check_values()
        if getattr(config.backbone_config, "model_type", None) == "timm_wrapper":
            _require_timm()
        if backbone is None:
            backbone = _build_backbone(config.backbone_config)
            _require_images(backbone)
        _fit_input_size(backbone, config.image_size)
        _mask_tokens_to_buffers(backbone)
        self.backbone = backbone
        self.supports_gradient_checkpointing = backbone.supports_gradient_checkpointing
        # A ViT scales its position table to other input sizes on request only.
        interpolates = "interpolate_pos_encoding" in inspect.signature(backbone.forward).parameters
        self.backbone_options = {"interpolate_pos_encoding": True} if interpolates else {}
        self.head = AssociationHead(
            _feature_size(backbone),
            config.num_labels,
            kernel_size=config.association_kernel_size,
            readout=config.readout,
            fusion=config.fusion,
            tiled=config.tiled_association,
            fused=config.fused_association,
            attention_weight=config.attention_weight,
            attention_temperature=config.attention_temperature,
        )
        self._check_memory()
        self.post_init()

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path, *args, config=None, image_size: int | None = None, **options
    ):
        """As transformers', at another input size too.

        Tables of timm models that depend on the input size are loaded first, and then interpolated to the new one.

        Args:
            pretrained_model_name_or_path: Hub id or folder.
            args: as transformers'.
            config: a configuration in the place of the saved one; its input size may be another.
            image_size: side of the square input in pixels; default: that of the configuration.
            options: as transformers'.

        Raises:
            ConfigurationError: if a value of the configuration, or the input size, is out of its range.
        """
        check_image_size(image_size)
        if isinstance(config, AssocFormerConfig) and pretrained_model_name_or_path is not None:
            loading = {key: options[key] for key in LOADING_OPTIONS if key in options}
            saved, _ = AssocFormerConfig.get_config_dict(pretrained_model_name_or_path, **loading)
            image_size = config.image_size if image_size is None else image_size
            config = copy.deepcopy(config)
            config.image_size = saved.get("image_size")
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, config=config, **options)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        if image_size not in (None, model.config.image_size):
            model.config.image_size = image_size
            _fit_input_size(model.backbone, image_size)
        return loaded

    @classmethod
    def from_backbone(
        cls,
        name_or_path: str | PathLike,
        image_size: int | None = None,
        dtype: torch.dtype | str = torch.float32,
        **options,
    ) -> "AssocFormerForMultiLabel":
        """A pretrained backbone with a fresh head, in evaluation mode, as `from_pretrained` leaves a model.

        Args:
            name_or_path: a Hub id or a folder of a vision model: one of timm's, CvT, or any that `AutoModel` loads; of
                an AssocFormer, whose backbone is taken; or one of `BACKBONE_PRESETS`, such as `"tiny-cvt"`, with random
                weights.
            image_size: side of the square input in pixels, where it shall differ from that of the pretraining.
            dtype: of the backbone's weights. They are float32 whatever the checkpoint holds, as most updates of weights
                in half precision are rounded away; `"auto"` takes the checkpoint's. The head is float32.
            options: values of [`AssocFormerConfig`], such as `id2label`; options of `from_pretrained`, such as
                `revision` or `attn_implementation`; values of the backbone's own configuration, such as `hidden_act`
                of CvT.

        Raises:
            ConfigurationError: if there is no such model, it is not one of images, an option is unknown, or a value of
                the configuration is out of its range.
        """
        name = str(name_or_path)
        own = {"num_labels", "id2label", "label2id", *AssocFormerConfig.__annotations__} - {"backbone_config"}
        values = {key: options.pop(key) for key in own & options.keys()}
        loading = {key: options.pop(key) for key in LOADING_OPTIONS if key in options}
        trained = None
        if name in BACKBONE_PRESETS:
            backbone_config = BACKBONE_PRESETS[name](**({} if image_size is None else {"image_size": image_size}))
        else:
            backbone_config = _load_backbone_config(name, loading)
            values["image_size"] = image_size
            if backbone_config.model_type == AssocFormerConfig.model_type:
                trained = cls.from_pretrained(name, dtype=dtype, **loading)
                backbone_config = trained.config.backbone_config
                values["image_size"] = image_size or trained.config.image_size
        for key, value in options.items():
            known = {} if trained else backbone_config.to_dict()  # a trained backbone is as it is
            if key not in known:
                if trained:
                    raise ConfigurationError(f"{name}: its backbone is trained, and stays as it is: leave out {key}")
                raise _unknown_option(name, key, [*own, *LOADING_OPTIONS, *known, "dtype", "image_size"])
            try:
                setattr(backbone_config, key, value)
            except StrictDataclassError as error:
                raise ConfigurationError(
                    f"{name}: {key}={value!r} is refused ({' '.join(str(error).split())})"
                ) from error
        config = AssocFormerConfig(backbone_config=backbone_config, **values)
        if trained:
            backbone = trained.backbone
        elif name in BACKBONE_PRESETS:
            if refused := loading.keys() - {"attn_implementation"}:
                raise ConfigurationError(f"{name} is a preset with random weights; {min(refused)} is for checkpoints")
            backbone = _build_backbone(config.backbone_config, dtype=None if dtype == "auto" else dtype, **loading)
        else:
            backbone_class = CvtBackbone if backbone_config.model_type == "cvt" else AutoModel
            backbone, found = backbone_class.from_pretrained(
                name, config=config.backbone_config, dtype=dtype, output_loading_info=True, **loading
            )
            if missing := sorted(found["missing_keys"]):
                warnings.warn(f"{name}: has no weights for {', '.join(missing)}; they start at random", stacklevel=2)
        _require_images(backbone)
        return cls(config, backbone=backbone).eval()

    def _set_gradient_checkpointing(self, *args, **kwargs):
        # Each kind of backbone has its own way; the head is too small to be worth it.
        self.backbone._set_gradient_checkpointing(*args, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module):
        # Called for the modules of the head; those of the backbone have their own.
        if isinstance(module, (nn.Conv1d, nn.Linear)):
            fan_in_std = module.weight.shape[-1] ** -0.5
            init.normal_(module.weight, std=module.initial_std if isinstance(module, LabelProjection) else fan_in_std)
            init.zeros_(module.bias)
        elif isinstance(module, FusionWeight):
            init.ones_(module.weight)

    def forward(
        self,
        pixel_values: Tensor,
        labels: Tensor | None = None,
        output_association: bool = False,
        output_features: bool = False,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **kwargs,
    ) -> AssocFormerOutput | tuple:
        """Scores the labels of images; with labels, the loss too.

        Args:
            pixel_values: `(batch, 3, height, width)`, as the image processor gives them.
            labels: `(batch, labels)`: 1 present, 0 absent, in between the share of both, -1 unknown.
            output_association: whether to return A.
            output_features: whether to return what explains the logits: pooled features, and evidence by place.
            output_hidden_states: whether to return the hidden states of the backbone.
            return_dict: whether to return an [`AssocFormerOutput`] rather than a tuple of what it holds.

        Raises:
            ValueError: if the pixels are whole numbers, or the labels do not have the shape of the logits, or, on the
                CPU, a label is neither in [0, 1] nor -1.
        """
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        outputs = self._run_backbone(pixel_values, output_hidden_states=output_hidden_states)
        features, feature_map, places = _pooled_feature(outputs), None, None
        if self.config.pooling == "attention":
            feature_map, grid = self._feature_map(outputs, pixel_values.shape[2:])
            places = self.head.evidence_by_place(feature_map).mT.unflatten(2, grid) if output_features else None
        scores = self.head(features, whole=output_association, feature_map=feature_map)
        loss = penalty = None
        if labels is not None:
            loss, penalty = self._loss(scores, labels)
        result = AssocFormerOutput(
            loss=loss,
            logits=scores.logits,
            association=scores.association if output_association else None,
            association_sums=scores.association_sums,
            association_logits=scores.association_logits,
            embedding_logits=scores.embedding_logits,
            features=features if output_features else None,
            places=places,
            association_penalty=penalty,
            hidden_states=outputs.hidden_states,
        )
        return result if (self.config.return_dict if return_dict is None else return_dict) else result.to_tuple()

    def head_inputs(self, pixel_values: Tensor) -> tuple[Tensor, Tensor | None]:
        """Images to what the head gets: L `(batch, d)`, and the feature map `(batch, places, d)`, None where
        `pooling="mean"` leaves it out."""
        outputs = self._run_backbone(pixel_values)
        attends = self.config.pooling == "attention"
        feature_map = self._feature_map(outputs, pixel_values.shape[2:])[0] if attends else None
        return _pooled_feature(outputs), feature_map

    def save_pretrained(self, *args, **kwargs) -> None:
        """As transformers'.

        Raises:
            ConfigurationError: if the configuration has values that it cannot have, or that the head has not; nothing
                is written then.
        """
        self._require_same_head()
        super().save_pretrained(*args, **kwargs)

    def _require_same_head(self):
        """Refuses a configuration that was changed behind the back of the head, which would give other scores when the
        model is loaded.

        Raises:
            ConfigurationError: naming the value.
        """
        for name in ("num_labels", "fusion", "attention_weight", "attention_temperature"):
            said, built = getattr(self.config, name), getattr(self.head, name)
            if said != built:
                raise ConfigurationError(
                    f"{name} is {said!r} in the configuration, and {built!r} in the head: give it to from_pretrained"
                )

    def _run_backbone(self, pixel_values: Tensor, **options) -> ModelOutput:
        self._require_same_head()
        if not pixel_values.is_floating_point():
            raise ValueError(
                f"pixel_values must be floating-point numbers as the image processor gives them, got "
                f"{pixel_values.dtype}; processor(images=…, return_tensors='pt') makes them"
            )
        # Not all of transformers' backbones take float32 images where their weights are in half precision.
        pixel_values = pixel_values.to(self.backbone.dtype)
        return self.backbone(pixel_values, return_dict=True, **self.backbone_options, **options)

    def _feature_map(self, outputs: ModelOutput, image_size: torch.Size) -> tuple[Tensor, tuple[int, int]]:
        """The feature map `(batch, places, d)`, and how many rows and columns its places form.

        Args:
            outputs: of the backbone.
            image_size: height and width of the images that it got.
        """
        hidden, registers = outputs.last_hidden_state, _num_register_tokens(self.backbone)
        tokens, grid = _as_places(hidden, self.head.embedding.in_features, image_size, registers)
        if isinstance(self.backbone, CvtBackbone):
            tokens = self.backbone.layernorm(tokens)  # as its pooled feature
        return tokens, grid

    def _loss(self, scores: AssociationScores, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Eq. 9, and its norm of A."""
        config = self.config
        loss = asymmetric_loss(scores.logits, labels, config.gamma_pos, config.gamma_neg, config.clip)
        if config.fusion == "linear" or config.association_norm == "none":
            return loss, None
        if scores.association is None:
            penalty = association_penalty_from_sums(scores.association_sums, config.association_norm)
        else:
            penalty = association_penalty(scores.association, config.association_norm)
        return loss + config.association_weight * penalty, penalty

    def _check_memory(self):
        config = self.config
        if config.fusion != "linear" and self.head.association.tiled and config.association_norm == "nuclear":
            raise ConfigurationError(
                f'association_norm="nuclear" needs A whole, {config.num_labels} x {config.num_labels} values '
                f"({config.num_labels**2 / 2**28:.2g} GiB) for every image; use l2, l1, l1_l2 or none, or "
                "tiled_association=False"
            )

    @torch.no_grad()
    def explain(self, pixel_values: Tensor) -> Tensor:
        """The contributions `(batch, labels, labels)`: how much of label c's logit came through label j.

        Exact: row c sums to that part of the logit which comes of N1, `association_logits[:, c]` less the readout's
        bias, times its factor alpha in eq. 7. It is that of evaluation mode, whatever mode the model is in.

        Raises:
            ValueError: for `fusion="linear"`, which has no association module.
        """
        if self.config.fusion == "linear":
            raise ValueError('fusion="linear" has no association module to explain; use another fusion')
        with _evaluating(self):
            return self.head.explain(_pooled_feature(self._run_backbone(pixel_values)))[1]

    @torch.no_grad()
    def explain_places(self, pixel_values: Tensor) -> Tensor:
        """Where each label was seen: what each place of the feature map gave to its logit, `(batch, labels, h, w)`.

        Exact: the sum over the places is that part of the logit which comes of N2, `embedding_logits` times its factor
        in eq. 7, less its constant part. Row 0 is the top of the image.

        Raises:
            ValueError: without `pooling="attention"`.
        """
        if self.config.pooling != "attention":
            raise ValueError('only pooling="attention" says where a label was seen; train with it')
        with _evaluating(self):
            return self(pixel_values, output_features=True, return_dict=True).places


def _load_backbone_config(name: str, loading: dict) -> PreTrainedConfig:
    """The configuration of a checkpoint, for CvT with the activation that it was trained with."""
    options = {key: value for key, value in loading.items() if key not in ("use_safetensors", "variant")}
    try:
        config = AutoConfig.from_pretrained(name, **options)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{name}: neither a folder of a model with its config.json, nor a model that can be had from the Hub "
            f"({(str(error).splitlines() or [type(error).__name__])[0]}), nor one of {', '.join(BACKBONE_PRESETS)}"
        ) from error
    if config.model_type == "cvt" and not hasattr(config, "hidden_act"):
        # transformers' class computes the exact GELU, so that what others trained with it expects that.
        config.hidden_act = "quick_gelu" if re.search(r"microsoft(/|--)cvt-", name) else "gelu"
    return config


def _build_backbone(config: PreTrainedConfig, **options) -> PreTrainedModel:
    """A backbone with random weights."""
    return (CvtBackbone._from_config if config.model_type == "cvt" else AutoModel.from_config)(config, **options)


def _require_images(backbone: PreTrainedModel):
    """Refuses a backbone that takes something else.

    Raises:
        ConfigurationError: naming what it takes.
    """
    if backbone.main_input_name != "pixel_values":
        raise ConfigurationError(
            f"{type(backbone).__name__} takes {backbone.main_input_name}, not images; use a vision backbone, such as "
            "timm's Swin, CvT, ViT, DINOv2 or ConvNeXt"
        )


def _require_timm():
    """Refuses versions of timm whose scores are others, which nothing else would tell where the package is not.

    Raises:
        ConfigurationError: if it is too old.
    """
    try:
        require_version(f"timm>={OLDEST_TIMM}")
    except ImportError as error:
        raise ConfigurationError(
            f'this timm is too old, and may give other scores: pip install -U "timm>={OLDEST_TIMM}"'
        ) from error


def _unknown_option(name: str, option: str, known: list[str]) -> ConfigurationError:
    close = difflib.get_close_matches(option, known, 1)
    hint = f"did you mean {close[0]}?" if close else "see AssocFormerConfig for what there is"
    return ConfigurationError(f"{name}: from_backbone knows no option {option!r}; {hint}")


def _fit_input_size(backbone: PreTrainedModel, image_size: int | None):
    """Has timm interpolate the tables of a backbone, where it has any that depend on the input size."""
    timm_model = getattr(backbone, "timm_model", None)
    if image_size is None or not hasattr(timm_model, "set_input_size"):
        return
    size = (image_size, image_size)
    if getattr(getattr(timm_model, "patch_embed", None), "img_size", None) != size:
        timm_model.set_input_size(img_size=size)


def fixed_input_size(backbone: PreTrainedModel) -> tuple[int, int] | None:
    """The height and width in pixels that a backbone of timm's takes alone; None where it takes others too."""
    patches = getattr(getattr(backbone, "timm_model", None), "patch_embed", None)
    return patches.img_size if getattr(patches, "strict_img_size", False) else None


def _mask_tokens_to_buffers(backbone: PreTrainedModel):
    """Mask tokens serve masked pretraining only: parameters that never get a gradient stop DistributedDataParallel."""
    for module in backbone.modules():
        if isinstance(getattr(module, "mask_token", None), nn.Parameter):
            token = module.mask_token.detach()
            del module.mask_token
            module.register_buffer("mask_token", token)


def _feature_size(backbone: PreTrainedModel) -> int:
    """The size d of the pooled feature of a backbone; where its configuration is not sure, it runs once.

    Raises:
        ConfigurationError: if it needs more than images, or gives no last hidden state.
    """
    arguments = list(inspect.signature(backbone.forward).parameters.values())[1:]
    if needed := [one.name for one in arguments if one.default is one.empty and one.kind == one.POSITIONAL_OR_KEYWORD]:
        raise ConfigurationError(
            f"{type(backbone).__name__} needs {' and '.join(needed)} beside the images; take another backbone, such as "
            "one of timm"
        )
    if hasattr(backbone, "timm_model"):
        return getattr(backbone.timm_model, "head_hidden_size", backbone.timm_model.num_features)
    config = backbone.config
    if isinstance(backbone, CvtBackbone):
        return config.embed_dim[-1]
    if hasattr(config, "hidden_size"):
        return config.hidden_size
    size = getattr(config, "image_size", 224)
    height, width = (size, size) if isinstance(size, int) else size
    like = next(backbone.parameters())
    image = torch.zeros(1, getattr(config, "num_channels", 3), height, width, dtype=like.dtype, device=like.device)
    with _evaluating(backbone), torch.no_grad():
        outputs = backbone(image, return_dict=True)
    if not hasattr(outputs, "last_hidden_state"):
        raise ConfigurationError(
            f"{type(backbone).__name__} gives {', '.join(outputs)} and no last_hidden_state; take another backbone, "
            "such as one of timm"
        )
    return _pooled_feature(outputs).shape[1]


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode; each module is then left in the mode that it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _pooled_feature(outputs: ModelOutput) -> Tensor:
    """L `(batch, d)`: the backbone's pooled output, else the mean of its last hidden state."""
    pooled = getattr(outputs, "pooler_output", None)
    if pooled is not None:
        return pooled.flatten(1)
    hidden = outputs.last_hidden_state
    return hidden.flatten(2).mean(-1) if hidden.ndim == 4 else hidden.mean(1)


def _num_register_tokens(backbone: PreTrainedModel) -> int:
    """How many tokens before those of the patches the backbone is known to have, of timm with the class token."""
    timm_model = getattr(backbone, "timm_model", None)
    return getattr(timm_model, "num_prefix_tokens", getattr(backbone.config, "num_register_tokens", 0))


def _as_places(
    hidden: Tensor, num_features: int, image_size: torch.Size, registers: int = 0
) -> tuple[Tensor, tuple[int, int]]:
    """The last hidden state as places `(batch, places, d)` without class and register tokens, and their grid.

    Where the hidden state is a row of tokens, the grid is the finest that square patches of the image can form with no
    more of them than there are beside the registers.

    Raises:
        ConfigurationError: if the backbone gives no map, or none of the image's shape.
    """
    if hidden.ndim == 4 and hidden.shape[1] == num_features:
        return hidden.flatten(2).mT, tuple(hidden.shape[2:])
    if hidden.ndim == 4 and hidden.shape[3] == num_features:
        return hidden.flatten(1, 2), tuple(hidden.shape[1:3])
    if hidden.ndim == 3 and hidden.shape[2] == num_features:
        height, width = image_size
        grids = ((height // patch, width // patch) for patch in range(1, max(image_size) + 1))
        tokens = hidden.shape[1] - registers
        grid = next(grid for grid in grids if math.prod(grid) <= tokens)
        if tokens - math.prod(grid) <= CLASS_TOKENS:
            return hidden[:, -math.prod(grid) :], grid
    raise ConfigurationError(
        f'pooling="attention" needs a feature map with {num_features} channels, and this backbone gives '
        f'{tuple(hidden.shape[1:])} for images of {tuple(image_size)}; use pooling="mean", or another image size'
    )


AssocFormerForMultiLabel.register_for_auto_class("AutoModelForImageClassification")
