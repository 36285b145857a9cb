"""AssocFormer: a vision backbone and the association head, as a transformers model."""

import inspect
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from .association import AssociationHead, AssociationScores, LabelProjection
from .configuration_assocformer import AssocFormerConfig, ConfigurationError
from .cvt import CvtBackbone
from .losses import association_penalty, association_penalty_from_sums, asymmetric_loss


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
        association_penalty: the norm of A in eq. 9 without its weight, a scalar, where labels were given.
        hidden_states: those of the backbone, with `output_hidden_states=True`.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    association: Tensor | None = None
    association_sums: Tensor | None = None
    association_logits: Tensor | None = None
    embedding_logits: Tensor | None = None
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
    _keep_in_fp32_modules_strict = ["head"]

    def __init__(self, config: AssocFormerConfig, backbone: PreTrainedModel | None = None):
        super().__init__(config)
        if backbone is None:
            is_cvt = config.backbone_config.model_type == "cvt"
            build = CvtBackbone._from_config if is_cvt else AutoModel.from_config
            backbone = build(config.backbone_config)
        _fit_input_size(backbone, config.image_size)
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
            attention_weight=config.attention_weight,
            attention_temperature=config.attention_temperature,
        )
        self._check_memory()
        self.post_init()

    @classmethod
    def from_backbone(cls, name_or_path: str, image_size: int | None = None, **config) -> "AssocFormerForMultiLabel":
        """A pretrained backbone with a fresh head.

        Args:
            name_or_path: a Hub id or a folder of a vision model: one of timm's, CvT, or any that `AutoModel` loads.
            image_size: side of the square input in pixels, where it shall differ from that of the pretraining.
            config: values of [`AssocFormerConfig`], such as `id2label`.

        Raises:
            ConfigurationError: if there is no such model, it is not one of images, or a value of the configuration is
                out of its range.
        """
        try:
            backbone_config = AutoConfig.from_pretrained(name_or_path)
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"{name_or_path}: neither a folder of a model with its config.json nor a model that can be had from "
                f"the Hub ({str(error).splitlines()[0]})"
            ) from error
        backbone_class = CvtBackbone if backbone_config.model_type == "cvt" else AutoModel
        backbone = backbone_class.from_pretrained(name_or_path, config=backbone_config)
        if backbone.main_input_name != "pixel_values":
            raise ConfigurationError(
                f"{name_or_path}: {type(backbone).__name__} takes {backbone.main_input_name}, not images; use a vision "
                "backbone, such as timm's Swin, CvT, ViT, DINOv2 or ConvNeXt"
            )
        config = AssocFormerConfig(backbone_config=backbone.config, image_size=image_size, **config)
        return cls(config, backbone=backbone)

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
        elif isinstance(module, AssociationHead) and module.fusion == "learnable":
            init.ones_(module.alpha)

    def forward(
        self,
        pixel_values: Tensor,
        labels: Tensor | None = None,
        output_association: bool = False,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **kwargs,
    ) -> AssocFormerOutput | tuple:
        """Scores the labels of images; with labels, the loss too.

        Args:
            pixel_values: `(batch, 3, height, width)`, in [0, 1].
            labels: `(batch, labels)`: 1 present, 0 absent, -1 unknown.
            output_association: whether to return A.
            output_hidden_states: whether to return the hidden states of the backbone.
            return_dict: whether to return an [`AssocFormerOutput`] rather than a tuple of what it holds.

        Raises:
            ValueError: if the labels do not have the shape of the logits.
        """
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        outputs = self._run_backbone(pixel_values, output_hidden_states=output_hidden_states)
        places = self._places(outputs)[0] if self.config.pooling == "attention" else None
        scores = self.head(_pooled_feature(outputs), whole=output_association, places=places)
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
            association_penalty=penalty,
            hidden_states=outputs.hidden_states,
        )
        return result if (self.config.return_dict if return_dict is None else return_dict) else result.to_tuple()

    def pooled_feature(self, pixel_values: Tensor) -> Tensor:
        """L of eq. 1 to 3: images `(batch, 3, height, width)` to the feature `(batch, d)` that the head gets."""
        return _pooled_feature(self._run_backbone(pixel_values))

    def _run_backbone(self, pixel_values: Tensor, **options) -> ModelOutput:
        return self.backbone(pixel_values, return_dict=True, **self.backbone_options, **options)

    def _places(self, outputs: ModelOutput) -> tuple[Tensor, tuple[int, int]]:
        """The feature map `(batch, places, d)`, and how many rows and columns its places form."""
        tokens, grid = _feature_map(outputs.last_hidden_state, self.head.embedding.in_features)
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
        """E `(batch, labels, labels)`: how much of label c's association logit came through label j.

        Exact: `E[:, c].sum(-1)` is `association_logits[:, c]` less the readout's bias.

        Raises:
            ValueError: for `fusion="linear"`, which has no association module.
        """
        if self.config.fusion == "linear":
            raise ValueError('fusion="linear" has no association module to explain; use another fusion')
        return self.head.contributions(_pooled_feature(self._run_backbone(pixel_values)))

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
        tokens, grid = self._places(self._run_backbone(pixel_values))
        return self.head.evidence_by_place(tokens).mT.unflatten(2, grid)


def _fit_input_size(backbone: PreTrainedModel, image_size: int | None):
    """Has timm interpolate the tables of a backbone, where it has any that depend on the input size."""
    timm_model = getattr(backbone, "timm_model", None)
    if image_size is None or not hasattr(timm_model, "set_input_size"):
        return
    size = (image_size, image_size)
    if getattr(getattr(timm_model, "patch_embed", None), "img_size", None) != size:
        timm_model.set_input_size(img_size=size)


def _feature_size(backbone: PreTrainedModel) -> int:
    """The size d of the pooled feature of a backbone."""
    if hasattr(backbone, "timm_model"):
        return getattr(backbone.timm_model, "head_hidden_size", backbone.timm_model.num_features)
    config = backbone.config
    if hasattr(config, "hidden_size"):
        return config.hidden_size
    sizes = getattr(config, "hidden_sizes", None) or getattr(config, "embed_dim", None)
    if not sizes:
        raise ConfigurationError(
            f"{type(backbone).__name__} ({config.model_type}) does not say how large its feature is "
            "(hidden_size, hidden_sizes or embed_dim in its configuration); use another vision backbone"
        )
    return sizes[-1]


def _pooled_feature(outputs: ModelOutput) -> Tensor:
    """L `(batch, d)`: the backbone's pooled output, else the mean of its last hidden state."""
    pooled = getattr(outputs, "pooler_output", None)
    if pooled is not None:
        return pooled.flatten(1)
    hidden = outputs.last_hidden_state
    return hidden.flatten(2).mean(-1) if hidden.ndim == 4 else hidden.mean(1)


def _feature_map(hidden: Tensor, num_features: int) -> tuple[Tensor, tuple[int, int]]:
    """The last hidden state as places `(batch, places, d)` without class and register tokens, and their grid.

    Raises:
        ConfigurationError: if the backbone gives no map.
    """
    if hidden.ndim == 4 and hidden.shape[1] == num_features:
        return hidden.flatten(2).mT, tuple(hidden.shape[2:])
    if hidden.ndim == 4 and hidden.shape[3] == num_features:
        return hidden.flatten(1, 2), tuple(hidden.shape[1:3])
    if hidden.ndim == 3 and hidden.shape[2] == num_features:
        side = math.isqrt(hidden.shape[1])  # of a square image; the tokens before the patches are few
        return hidden[:, -(side**2) :], (side, side)
    raise ConfigurationError(
        f'pooling="attention" needs a feature map with {num_features} channels, and this backbone gives '
        f'{tuple(hidden.shape[1:])}; use pooling="mean"'
    )


AssocFormerForMultiLabel.register_for_auto_class("AutoModelForImageClassification")
