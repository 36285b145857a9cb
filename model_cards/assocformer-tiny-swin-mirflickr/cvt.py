"""CvT (Wu et al., ICCV 2021) fit for training, as a backbone.

The layers that hold the weights are those of transformers, under the same names, so that its checkpoints load as they
are. What transformers' own assembly gets wrong for training is done here: drop-path acts on each residual branch and
never on the residual, its rates rise over the blocks of a stage, any depth can be built, attention runs through the
attention interface (SDPA by default), and each block can be checkpointed. Microsoft's checkpoints were trained with
QuickGELU, which transformers' class does not have: `hidden_act` of the configuration chooses.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import CvtConfig, CvtPreTrainedModel
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndNoAttention
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.cvt.modeling_cvt import (
    CvtDropPath,
    CvtEmbeddings,
    CvtIntermediate,
    CvtOutput,
    CvtSelfAttentionProjection,
    CvtSelfOutput,
)


def eager_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[Tensor, Tensor]:
    """Attention with materialised weights, as `attn_implementation="eager"`.

    Args:
        module: the layer that asks.
        query: `(batch, heads, queries, head_size)`.
        key: `(batch, heads, keys, head_size)`.
        value: `(batch, heads, keys, head_size)`.
        attention_mask: always None.
        scaling: factor of the products of queries and keys.
        dropout: share of the weights that is dropped in training.
        kwargs: options of other attention functions.

    Returns:
        The context `(batch, queries, heads, head_size)` and the weights `(batch, heads, queries, keys)`.
    """
    weights = torch.softmax(query @ key.mT * scaling, dim=-1)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    return (weights @ value).transpose(1, 2), weights


class CvtSelfAttention(nn.Module):
    """Multi-head attention behind depth-wise convolutions of the token map; keys and values are pooled by a stride."""

    is_causal = False

    def __init__(self, config: CvtConfig, stage: int):
        super().__init__()
        method = config.qkv_projection_method[stage]
        if method != "dw_bn":
            raise ValueError(f"qkv_projection_method must be 'dw_bn' in every stage of CvT, got {method!r}")
        size, bias, kernel = config.embed_dim[stage], config.qkv_bias[stage], config.kernel_qkv[stage]
        padding_kv, stride_kv = config.padding_kv[stage], config.stride_kv[stage]
        self.config = config
        self.head_size = size // config.num_heads[stage]
        self.scaling = size**-0.5  # of all heads together, as CvT was trained
        self.dropout = config.attention_drop_rate[stage]
        self.convolution_projection_query = CvtSelfAttentionProjection(
            size, kernel, config.padding_q[stage], config.stride_q[stage]
        )
        self.convolution_projection_key = CvtSelfAttentionProjection(size, kernel, padding_kv, stride_kv)
        self.convolution_projection_value = CvtSelfAttentionProjection(size, kernel, padding_kv, stride_kv)
        self.projection_query = nn.Linear(size, size, bias=bias)
        self.projection_key = nn.Linear(size, size, bias=bias)
        self.projection_value = nn.Linear(size, size, bias=bias)

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """Tokens `(batch, height * width, d)`, or one more with the class token first, to the same shape."""
        class_tokens = tokens.shape[1] - height * width
        class_token, tokens = tokens.split([class_tokens, height * width], dim=1)
        token_map = tokens.mT.unflatten(2, (height, width))

        def project(convolution: nn.Module, linear: nn.Module) -> Tensor:
            projected = linear(torch.cat([class_token, convolution(token_map)], dim=1))
            return projected.unflatten(2, (-1, self.head_size)).transpose(1, 2)

        attend: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention)
        context, _ = attend(
            self,
            project(self.convolution_projection_query, self.projection_query),
            project(self.convolution_projection_key, self.projection_key),
            project(self.convolution_projection_value, self.projection_value),
            attention_mask=None,
            scaling=self.scaling,
            dropout=self.dropout if self.training else 0.0,
        )
        return context.flatten(2)


class CvtAttention(nn.Module):
    """Attention and its output projection."""

    def __init__(self, config: CvtConfig, stage: int):
        super().__init__()
        self.attention = CvtSelfAttention(config, stage)
        self.output = CvtSelfOutput(config.embed_dim[stage], config.drop_rate[stage])

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """Tokens to tokens of the same shape."""
        return self.output(self.attention(tokens, height, width), tokens)


class CvtLayer(GradientCheckpointingLayer):
    """A transformer block with pre-normalisation.

    Args:
        config: configuration of CvT.
        stage: index of the stage that the block belongs to.
        drop_path_rate: probability with which a sample skips each of the two residual branches in training.
    """

    def __init__(self, config: CvtConfig, stage: int, drop_path_rate: float):
        super().__init__()
        size, mlp_ratio = config.embed_dim[stage], config.mlp_ratio[stage]
        self.attention = CvtAttention(config, stage)
        self.intermediate = CvtIntermediate(size, mlp_ratio)
        self.intermediate.activation = ACT2FN[getattr(config, "hidden_act", "gelu")]
        self.output = CvtOutput(size, mlp_ratio, config.drop_rate[stage])
        self.drop_path = CvtDropPath(drop_path_rate)
        self.layernorm_before = nn.LayerNorm(size)
        self.layernorm_after = nn.LayerNorm(size)

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """Tokens to tokens of the same shape."""
        tokens = tokens + self.drop_path(self.attention(self.layernorm_before(tokens), height, width))
        # CvtOutput adds its second argument before drop-path could act, so its layers are called one by one.
        branch = self.output.dense(self.intermediate(self.layernorm_after(tokens)))
        return tokens + self.drop_path(self.output.dropout(branch))


class CvtStage(nn.Module):
    """A strided patch embedding and the blocks at its resolution."""

    def __init__(self, config: CvtConfig, stage: int):
        super().__init__()
        self.embedding = CvtEmbeddings(
            patch_size=config.patch_sizes[stage],
            num_channels=config.embed_dim[stage - 1] if stage else config.num_channels,
            embed_dim=config.embed_dim[stage],
            stride=config.patch_stride[stage],
            padding=config.patch_padding[stage],
            dropout_rate=config.drop_rate[stage],
        )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.embed_dim[stage])) if config.cls_token[stage] else None
        rates = torch.linspace(0, config.drop_path_rate[stage], config.depth[stage], device="cpu").tolist()
        self.layers = nn.ModuleList(CvtLayer(config, stage, rate) for rate in rates)

    def forward(self, feature_map: Tensor) -> tuple[Tensor, Tensor | None]:
        """A map `(batch, channels, h, w)` to the stage's map and its class token `(batch, 1, d)`, where it has one."""
        feature_map = self.embedding(feature_map)
        height, width = feature_map.shape[2:]
        tokens = feature_map.flatten(2).mT
        if self.cls_token is not None:
            tokens = torch.cat([self.cls_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        for layer in self.layers:
            tokens = layer(tokens, height, width)
        class_token = None
        if self.cls_token is not None:
            class_token, tokens = tokens.split([1, height * width], dim=1)
        return tokens.mT.unflatten(2, (height, width)), class_token


class CvtEncoder(nn.Module):
    """The stages of CvT, one after the other."""

    def __init__(self, config: CvtConfig):
        super().__init__()
        self.stages = nn.ModuleList(CvtStage(config, stage) for stage in range(len(config.depth)))


class CvtModel(nn.Module):
    """Holds the encoder under the name that it has in the checkpoints."""

    def __init__(self, config: CvtConfig):
        super().__init__()
        self.encoder = CvtEncoder(config)


class CvtBackbone(CvtPreTrainedModel):
    """CvT without its classifier: the pooled feature is the class token behind the checkpoint's final LayerNorm.

    Loads the checkpoints of `CvtForImageClassification` and of `CvtModel`; the latter lack the final LayerNorm, which
    then starts as it is initialised. The activation is `config.hidden_act`: `"quick_gelu"`, or `"gelu"`, the exact one,
    where the configuration has none.

    Raises:
        ValueError: if the configuration asks for a projection other than `"dw_bn"`.
    """

    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _keys_to_ignore_on_load_missing = [r"^layernorm\."]
    _keys_to_ignore_on_load_unexpected = [r"^classifier\."]

    def __init__(self, config: CvtConfig):
        super().__init__(config)
        self.cvt = CvtModel(config)
        self.layernorm = nn.LayerNorm(config.embed_dim[-1])
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, CvtStage) and module.cls_token is not None:
            init.trunc_normal_(module.cls_token, mean=0.0, std=self.config.initializer_range)

    def get_input_embeddings(self) -> nn.Module:
        """The patch embedding of the first stage."""
        return self.cvt.encoder.stages[0].embedding

    def forward(
        self, pixel_values: Tensor, output_hidden_states: bool | None = None, **kwargs
    ) -> BaseModelOutputWithPoolingAndNoAttention:
        """Images `(batch, 3, height, width)` to the feature map `(batch, d, h, w)` and the feature `(batch, d)`.

        Without a class token in the last stage the feature is the mean of the normalised map.
        """
        weight = self.cvt.encoder.stages[0].embedding.convolution_embeddings.projection.weight
        feature_map, class_token, hidden_states = pixel_values.to(weight.dtype), None, []
        for stage in self.cvt.encoder.stages:
            feature_map, class_token = stage(feature_map)
            hidden_states.append(feature_map)
        tokens = feature_map.flatten(2).mT if class_token is None else class_token
        return BaseModelOutputWithPoolingAndNoAttention(
            last_hidden_state=feature_map,
            pooler_output=self.layernorm(tokens).mean(1),
            hidden_states=tuple(hidden_states) if output_hidden_states else None,
        )
