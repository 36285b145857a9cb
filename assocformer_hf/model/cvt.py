"""CvT as a backbone: the class token behind the checkpoint's final LayerNorm as pooled feature."""

from torch import Tensor, nn
from transformers import CvtConfig, CvtModel, CvtPreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndNoAttention


class CvtBackbone(CvtPreTrainedModel):
    """CvT (Wu et al., ICCV 2021) without its classifier.

    Loads the checkpoints of `CvtForImageClassification`, whose final LayerNorm `CvtModel` alone leaves out, and those
    of `CvtModel`.

    Raises:
        ValueError: if the configuration has no class token in the last stage.
    """

    _keys_to_ignore_on_load_unexpected = [r"^classifier\."]

    def __init__(self, config: CvtConfig):
        super().__init__(config)
        if not config.cls_token[-1]:
            raise ValueError(f"cls_token must be True for the last stage of CvT, got {config.cls_token}")
        self.cvt = CvtModel(config, add_pooling_layer=False)
        self.layernorm = nn.LayerNorm(config.embed_dim[-1])
        self.post_init()

    def forward(
        self, pixel_values: Tensor, output_hidden_states: bool | None = None, **kwargs
    ) -> BaseModelOutputWithPoolingAndNoAttention:
        """Images `(batch, 3, height, width)` to the feature map `(batch, d, h, w)` and the feature `(batch, d)`."""
        outputs = self.cvt(pixel_values, output_hidden_states=output_hidden_states, return_dict=True)
        return BaseModelOutputWithPoolingAndNoAttention(
            last_hidden_state=outputs.last_hidden_state,
            pooler_output=self.layernorm(outputs.cls_token_value).squeeze(1),
            hidden_states=outputs.hidden_states,
        )
