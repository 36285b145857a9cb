"""Backbone configurations by name, for training without a pretrained checkpoint."""

from transformers import CvtConfig, PreTrainedConfig
from transformers.models.timm_wrapper import TimmWrapperConfig


def tiny_swin(image_size: int = 64) -> PreTrainedConfig:
    """A Swin of 1 to 2 M parameters for small images and two CPU cores."""
    return TimmWrapperConfig(
        architecture="swin_tiny_patch4_window7_224",
        model_args={
            "img_size": image_size,
            "window_size": 4,
            "embed_dim": 48,
            "depths": [2, 4, 2],
            "num_heads": [2, 4, 8],
            "drop_path_rate": 0.0,
        },
    )


def micro_swin(image_size: int = 64) -> PreTrainedConfig:
    """A Swin of 1 M parameters, whose checkpoint in float32 takes less than 4 MB."""
    config = tiny_swin(image_size)
    config.model_args |= {"embed_dim": 36, "depths": [2, 6, 2]}
    return config


def tiny_cvt(image_size: int = 64) -> PreTrainedConfig:
    """A CvT of 1.5 M parameters for small images and two CPU cores; it takes any image size."""
    return CvtConfig(
        patch_sizes=[9, 3, 3],
        patch_stride=[8, 2, 2],
        patch_padding=[4, 1, 1],
        embed_dim=[64, 128, 192],
        num_heads=[2, 4, 6],
        depth=[1, 2, 3],
        mlp_ratio=[2.0, 2.0, 2.0],
        drop_path_rate=[0.0, 0.0, 0.0],
    )


def swin_large(image_size: int = 384) -> PreTrainedConfig:
    """The paper's Swin-L: 195.2 M parameters."""
    return TimmWrapperConfig(architecture="swin_large_patch4_window12_384", model_args={"img_size": image_size})


def cvt_w24(image_size: int = 384) -> PreTrainedConfig:
    """The paper's CvT-w24: 276.2 M parameters; it takes any image size."""
    return CvtConfig(
        embed_dim=[192, 768, 1024],
        num_heads=[3, 12, 16],
        depth=[2, 2, 20],
        drop_path_rate=[0.0, 0.0, 0.3],
        hidden_act="quick_gelu",  # as microsoft/cvt-w24-384-22k
    )


BACKBONE_PRESETS = {
    "micro-swin": micro_swin,
    "tiny-swin": tiny_swin,
    "tiny-cvt": tiny_cvt,
    "swin-large": swin_large,
    "cvt-w24": cvt_w24,
}
