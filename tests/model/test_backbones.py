"""`from_backbone` with the kinds of vision models that people have, each from a folder with random weights."""

import pytest
import torch
from PIL import Image
from transformers import (
    BertConfig,
    BertModel,
    BitImageProcessor,
    ConvNextConfig,
    ConvNextModel,
    Dinov2Config,
    Dinov2Model,
    EfficientNetConfig,
    EfficientNetModel,
    SwinConfig,
    SwinModel,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
)
from transformers.models.timm_wrapper import TimmWrapperConfig, TimmWrapperModel

from assocformer_hf import AssocFormerForMultiLabel
from assocformer_hf.data.images.transforms import backbone_image_processor
from assocformer_hf.data.schema import DataError
from assocformer_hf.model.cvt import CvtBackbone
from assocformer_hf.model.presets import tiny_cvt

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def timm(architecture: str, **model_args) -> TimmWrapperModel:
    return TimmWrapperModel(TimmWrapperConfig(architecture=architecture, model_args=model_args))


BACKBONES = {
    "timm Swin": lambda: timm(
        "swin_tiny_patch4_window7_224", img_size=64, window_size=4, embed_dim=24, depths=[1, 1, 1], num_heads=[1, 2, 4]
    ),
    "timm ViT": lambda: timm("vit_tiny_patch16_224", img_size=64, embed_dim=32, depth=2, num_heads=2),
    "timm ConvNeXt": lambda: timm("convnext_atto", depths=[1, 1, 1, 1], dims=[8, 16, 24, 32]),
    "timm ResNet": lambda: timm("resnet10t"),
    "CvT": lambda: CvtBackbone(tiny_cvt()),
    "Swin": lambda: SwinModel(
        SwinConfig(image_size=64, embed_dim=16, depths=[1, 1], num_heads=[1, 2], window_size=4, patch_size=4)
    ),
    "ViT": lambda: ViTModel(ViTConfig(image_size=64, patch_size=16, **SMALL)),
    "DINOv2": lambda: Dinov2Model(Dinov2Config(image_size=64, patch_size=16, **SMALL)),
    "ConvNeXt": lambda: ConvNextModel(ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1])),
}


@pytest.mark.parametrize("size", [64, 96])
@pytest.mark.parametrize("kind", BACKBONES)
def test_any_vision_backbone_at_its_own_and_another_size(kind, size, tmp_path):
    torch.manual_seed(0)
    backbone = BACKBONES[kind]().eval()
    backbone.save_pretrained(tmp_path / "backbone")
    model = AssocFormerForMultiLabel.from_backbone(tmp_path / "backbone", image_size=size, num_labels=5).eval()
    images = torch.rand(2, 3, size, size)
    logits = model(images).logits
    assert logits.shape == (2, 5)
    if size == 64:
        torch.testing.assert_close(model.backbone(images).pooler_output, backbone(images).pooler_output)
    model.save_pretrained(tmp_path / "model")
    again = AssocFormerForMultiLabel.from_pretrained(tmp_path / "model")
    torch.testing.assert_close(again(images).logits, logits, rtol=1e-4, atol=1e-5)
    model.train()(images, labels=torch.ones(2, 5)).loss.backward()


@pytest.mark.parametrize(
    ("kind", "table", "before", "after"),
    [
        ("timm Swin", "layers.0.blocks.0.attn.relative_position_bias_table", (7 * 7, 1), (13 * 13, 1)),
        ("timm ViT", "pos_embed", (1, 1 + 4 * 4, 32), (1, 1 + 7 * 7, 32)),
    ],
)
def test_tables_of_timm_are_interpolated_to_the_input_size(kind, table, before, after, tmp_path):
    """The windows of Swin grow with the image: 4 tokens in 16, 7 in 28."""
    backbone = BACKBONES[kind]()
    values = backbone.timm_model.get_parameter(table)
    assert values.shape == before
    with torch.no_grad():
        values.fill_(0.25)
    backbone.save_pretrained(tmp_path)
    model = AssocFormerForMultiLabel.from_backbone(tmp_path, image_size=112, num_labels=2)
    interpolated = model.backbone.timm_model.get_parameter(table)
    assert interpolated.shape == after
    torch.testing.assert_close(interpolated, torch.full(after, 0.25))


def test_the_processor_of_a_backbone_of_timm(tmp_path):
    config = TimmWrapperConfig(
        architecture="resnet10t",
        pretrained_cfg={"input_size": [3, 176, 176], "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2], "crop_pct": 0.9},
    )
    TimmWrapperModel(config).save_pretrained(tmp_path)
    check_processor(tmp_path, 176, mean=[0.5, 0.4, 0.3], std=[0.2, 0.2, 0.2])


@pytest.mark.parametrize("source", [ViTImageProcessor, BitImageProcessor])
def test_the_processor_of_a_backbone_of_transformers(tmp_path, source):
    """BitImageProcessor, as DINOv2 has it, resizes the short side and crops: a crop would lose labelled objects."""
    ViTModel(ViTConfig(image_size=64, **SMALL)).save_pretrained(tmp_path)
    options = {"size": {"shortest_edge": 80}, "crop_size": 64} if source is BitImageProcessor else {"size": 64}
    source(image_mean=[0.4, 0.5, 0.6], image_std=[0.3, 0.2, 0.1], **options).save_pretrained(tmp_path)
    check_processor(tmp_path, 64, mean=[0.4, 0.5, 0.6], std=[0.3, 0.2, 0.1])


def check_processor(folder, size, mean, std):
    white = Image.new("RGB", (300, 200), "white")
    expected = (1 - torch.tensor(mean)) / torch.tensor(std)
    for image_size, side in ((None, size), (96, 96)):
        processor = backbone_image_processor(folder, image_size)
        pixels = processor(images=white, return_tensors="pt")["pixel_values"]
        assert pixels.shape == (1, 3, side, side)
        torch.testing.assert_close(pixels[0, :, 0, 0], expected, rtol=1e-4, atol=1e-4)


def test_a_backbone_without_a_processor_is_named(tmp_path):
    BACKBONES["CvT"]().save_pretrained(tmp_path)
    with pytest.raises(DataError, match=f"{tmp_path}: has no image processor .*use create_image_processor"):
        backbone_image_processor(tmp_path)


@pytest.mark.parametrize("kind", ["CvT", "timm Swin", "ViT"])
def test_a_backbone_that_is_loaded_as_a_model_points_to_from_backbone(kind, tmp_path):
    BACKBONES[kind]().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="not an AssocFormer; AssocFormerForMultiLabel.from_backbone takes it"):
        AssocFormerForMultiLabel.from_pretrained(tmp_path)


def test_a_text_model_is_refused(tmp_path):
    BertModel(BertConfig(vocab_size=10, **SMALL)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="BertModel takes input_ids, not images; use a vision backbone"):
        AssocFormerForMultiLabel.from_backbone(tmp_path)


def test_a_model_that_does_not_tell_its_feature_size_is_refused(tmp_path):
    config = EfficientNetConfig(width_coefficient=0.1, depth_coefficient=0.1, hidden_dim=32)
    EfficientNetModel(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"EfficientNetModel \(efficientnet\) does not say how large its feature is"):
        AssocFormerForMultiLabel.from_backbone(tmp_path)
