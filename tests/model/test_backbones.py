"""`from_backbone` with the kinds of vision models that people have, each from a folder with random weights."""

import pytest
import torch
from PIL import Image
from timm import create_model
from timm.models import save_for_hf
from transformers import (
    BertConfig,
    BertModel,
    BitImageProcessor,
    ConvNextConfig,
    ConvNextModel,
    CvtForImageClassification,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    EfficientNetConfig,
    EfficientNetModel,
    HGNetV2Config,
    MobileViTConfig,
    MobileViTImageProcessor,
    MobileViTModel,
    Siglip2VisionConfig,
    SwinConfig,
    SwinModel,
    ViTConfig,
    ViTImageProcessor,
    ViTMAEConfig,
    ViTMAEModel,
    ViTModel,
)
from transformers.models.timm_wrapper import TimmWrapperConfig, TimmWrapperModel

from assocformer_hf import AssocFormerConfig, AssocFormerForMultiLabel
from assocformer_hf.data.images.transforms import backbone_image_processor
from assocformer_hf.data.schema import DataError
from assocformer_hf.model.configuration_assocformer import ConfigurationError
from assocformer_hf.model.cvt import CvtBackbone
from assocformer_hf.model.presets import tiny_cvt
from tests.conftest import images

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
    "DINOv2 with registers": lambda: Dinov2WithRegistersModel(
        Dinov2WithRegistersConfig(image_size=64, patch_size=16, **SMALL)
    ),
    "DINOv3": lambda: DINOv3ViTModel(DINOv3ViTConfig(image_size=64, patch_size=16, num_register_tokens=2, **SMALL)),
    # The configurations of these do not say how large their feature is, or say it wrongly.
    "EfficientNet": lambda: EfficientNetModel(
        EfficientNetConfig(width_coefficient=0.1, depth_coefficient=0.1, hidden_dim=128)
    ),
    "MobileViT": lambda: MobileViTModel(
        MobileViTConfig(image_size=64, hidden_sizes=[16, 24, 32], neck_hidden_sizes=[8, 8, 16, 16, 24, 32, 40])
    ),
}


@pytest.mark.parametrize("size", [64, 96])
@pytest.mark.parametrize("kind", BACKBONES)
def test_any_vision_backbone_at_its_own_and_another_size(kind, size, tmp_path):
    torch.manual_seed(0)
    backbone = BACKBONES[kind]().eval()
    backbone.save_pretrained(tmp_path / "backbone")
    model = AssocFormerForMultiLabel.from_backbone(tmp_path / "backbone", image_size=size, num_labels=5).eval()
    inputs = images(2, size, size)
    logits = model(inputs).logits
    assert logits.shape == (2, 5)
    assert {name: value.tolist() for name, value in backbone.state_dict().items() if "mask_token" in name} == {
        name: value.tolist() for name, value in model.backbone.state_dict().items() if "mask_token" in name
    }
    if size == 64:
        torch.testing.assert_close(model.backbone(inputs).pooler_output, backbone(inputs).pooler_output)
    model.save_pretrained(tmp_path / "model")
    again = AssocFormerForMultiLabel.from_pretrained(tmp_path / "model")
    torch.testing.assert_close(again(inputs).logits, logits, rtol=1e-4, atol=1e-5)
    model.train()(inputs, labels=torch.ones(2, 5)).loss.backward()
    # A parameter without a gradient, such as the mask token of DINO, stops a training by several processes.
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


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


def test_a_model_that_hides_most_of_an_image_is_refused(tmp_path):
    ViTMAEModel(ViTMAEConfig(decoder_num_hidden_layers=1, **SMALL)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="vit_mae hides most of an image at random, .* same weights from timm"):
        AssocFormerForMultiLabel.from_backbone(tmp_path)


@pytest.mark.parametrize("kind", sorted(BACKBONES))
def test_a_checkpoint_in_half_precision_takes_images_in_float32(kind, tmp_path):
    BACKBONES[kind]().save_pretrained(tmp_path / "backbone")
    model = AssocFormerForMultiLabel.from_backbone(tmp_path / "backbone", image_size=64, num_labels=3)
    model.to(torch.bfloat16).save_pretrained(tmp_path / "half")
    half = AssocFormerForMultiLabel.from_pretrained(tmp_path / "half")
    assert half.backbone.dtype == torch.bfloat16
    assert half(images()).logits.isfinite().all()


@pytest.mark.parametrize("preset", ["tiny-swin", "tiny-cvt"])
def test_the_trained_backbone_of_a_whole_model_gets_a_new_head_and_another_input_size(preset, tmp_path):
    model = AssocFormerForMultiLabel.from_backbone(preset, image_size=64, num_labels=5)
    model.half().save_pretrained(tmp_path / "trained")
    again = AssocFormerForMultiLabel.from_backbone(tmp_path / "trained", num_labels=3, fusion="association")
    assert (again.config.num_labels, again.dtype, again.training) == (3, torch.float32, False)
    torch.testing.assert_close(again.head_inputs(images()), model.float().head_inputs(images()))
    larger = AssocFormerForMultiLabel.from_backbone(tmp_path / "trained", image_size=96, num_labels=3)
    larger.save_pretrained(tmp_path / "larger")
    loaded = AssocFormerForMultiLabel.from_pretrained(tmp_path / "larger").eval()
    inputs = torch.rand(1, 3, 96, 96)
    torch.testing.assert_close(loaded(inputs).logits, larger(inputs).logits)
    with pytest.raises(ValueError, match="its backbone is trained, and stays as it is: leave out drop_path_rate"):
        AssocFormerForMultiLabel.from_backbone(tmp_path / "trained", drop_path_rate=0.5)


def test_a_preset_is_a_backbone_too_with_random_weights(tmp_path):
    model = AssocFormerForMultiLabel.from_backbone("tiny-cvt", num_labels=3, fusion="linear", drop_path_rate=[0.1] * 3)
    assert isinstance(model.backbone, CvtBackbone)
    assert model.backbone.config.drop_path_rate == [0.1, 0.1, 0.1]
    assert (
        AssocFormerForMultiLabel.from_backbone("tiny-swin", image_size=128)(torch.rand(1, 3, 128, 128)).logits.ndim == 2
    )
    with pytest.raises(
        ConfigurationError, match="tiny-cvt is a preset with random weights; revision is for checkpoints"
    ):
        AssocFormerForMultiLabel.from_backbone("tiny-cvt", revision="v2")
    with pytest.raises(
        ConfigurationError, match="tiny-cvd: neither a folder .* one of micro-swin, tiny-swin, tiny-cvt"
    ):
        AssocFormerForMultiLabel.from_backbone("tiny-cvd")


@pytest.mark.parametrize("kind", ["CvT", "timm ConvNeXt", "ViT"])
def test_half_precision_checkpoints_become_float32_unless_asked(kind, tmp_path):
    """In bfloat16 an update of less than 1/256 of a weight is lost."""
    half = BACKBONES[kind]().to(torch.bfloat16)
    half.save_pretrained(tmp_path)
    model = AssocFormerForMultiLabel.from_backbone(tmp_path, num_labels=3)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    for name, value in half.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[name], value.to(model.backbone.state_dict()[name].dtype))
    for dtype in ("auto", "bfloat16", torch.bfloat16):
        asked = AssocFormerForMultiLabel.from_backbone(tmp_path, num_labels=3, dtype=dtype)
        assert {p.dtype for p in asked.backbone.parameters()} == {torch.bfloat16}
        assert {p.dtype for p in asked.head.parameters()} == {torch.float32}
        feature, expected = (x.backbone(images()).pooler_output.float() for x in (asked, model))
        torch.testing.assert_close(feature, expected, rtol=0.1, atol=0.1)
        assert asked(images()).logits.isfinite().all()


def test_options_of_loading_are_passed_on_and_unknown_ones_refused(tmp_path):
    BACKBONES["ViT"]().save_pretrained(tmp_path / "sub")
    load = AssocFormerForMultiLabel.from_backbone
    model = load(tmp_path, subfolder="sub", attn_implementation="eager", local_files_only=True, hidden_dropout_prob=0.3)
    assert model.backbone.config._attn_implementation == "eager"
    assert model.backbone.config.hidden_dropout_prob == 0.3
    assert load(tmp_path / "sub").backbone.config._attn_implementation == "sdpa"
    for option, hint in (("fusoin", "fusion"), ("revison", "revision"), ("num_label", "num_labels")):
        with pytest.raises(ConfigurationError, match=f"no option '{option}'; did you mean {hint}?"):
            load(tmp_path / "sub", **{option: 1})
    with pytest.raises(
        ConfigurationError, match="tiny-cvt: drop_path_rate=0.1 is refused"
    ):  # a list, one for each stage
        AssocFormerForMultiLabel.from_backbone("tiny-cvt", num_labels=2, drop_path_rate=0.1)


@pytest.mark.parametrize("kind", BACKBONES)
def test_the_model_is_in_evaluation_mode_as_from_pretrained_leaves_it(kind, tmp_path):
    BACKBONES[kind]().save_pretrained(tmp_path)
    model = AssocFormerForMultiLabel.from_backbone(tmp_path)
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("safe", [True, False])
def test_folders_of_timm_itself(safe, tmp_path):
    """`save_for_hf`, which `push_to_hf_hub` calls, writes the arguments of the model, its classifier's size too."""
    model_args = {"num_classes": 7, "img_size": 64, "embed_dim": 32, "depth": 2, "num_heads": 2}
    model = create_model("vit_tiny_patch16_224", **model_args).eval()
    save_for_hf(model, tmp_path, model_args=model_args, safe_serialization=safe)
    loaded = AssocFormerForMultiLabel.from_backbone(tmp_path, num_labels=3)
    expected = model.forward_head(model.forward_features(images()), pre_logits=True)
    torch.testing.assert_close(loaded.backbone(images()).pooler_output, expected)
    loaded.save_pretrained(tmp_path / "again")
    again = AssocFormerForMultiLabel.from_pretrained(tmp_path / "again")
    torch.testing.assert_close(again(images()).logits, loaded(images()).logits)


@pytest.mark.parametrize("name", ["microsoft/cvt-13", "models--microsoft--cvt-13/snapshots/1", "someone/cvt-13"])
def test_cvt_has_the_activation_that_its_checkpoint_was_trained_with(name, tmp_path, monkeypatch):
    """Microsoft's weights were trained with QuickGELU; transformers' class has GELU, and so what others trained."""
    checkpoint = CvtForImageClassification(tiny_cvt()).eval()
    checkpoint.save_pretrained(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    model = AssocFormerForMultiLabel.from_backbone(name, num_labels=3)
    kind = "gelu" if name.startswith("someone") else "quick_gelu"
    assert model.config.backbone_config.hidden_act == model.backbone.config.hidden_act == kind
    for layer in checkpoint.modules():
        if hasattr(layer, "activation") and kind == "quick_gelu":
            layer.activation.forward = lambda x: x * torch.sigmoid(1.702 * x)
    token = checkpoint.layernorm(checkpoint.cvt(images()).cls_token_value).squeeze(1)
    torch.testing.assert_close(model.backbone(images()).pooler_output, token, rtol=1e-5, atol=1e-5)
    model.save_pretrained(tmp_path / "saved")
    again = AssocFormerForMultiLabel.from_pretrained(tmp_path / "saved")
    torch.testing.assert_close(again(images()).logits, model(images()).logits)
    other = AssocFormerForMultiLabel.from_backbone(name, hidden_act="gelu")
    assert other.config.backbone_config.hidden_act == "gelu"


def test_weights_that_a_checkpoint_lacks_are_named(tmp_path):
    torch.manual_seed(0)
    # As in google/vit-base-patch16-224, which was saved with a classifier in the place of the pooler.
    ViTModel(ViTConfig(image_size=64, patch_size=16, **SMALL), add_pooling_layer=False).save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="has no weights for pooler.dense.bias, pooler.dense.weight; they start at"):
        AssocFormerForMultiLabel.from_backbone(tmp_path, num_labels=2)


def test_a_backbone_that_wants_blue_first_is_refused(tmp_path):
    MobileViTImageProcessor().save_pretrained(tmp_path)
    with pytest.raises(DataError, match="blue, green, red"):
        backbone_image_processor(str(tmp_path))


@pytest.mark.parametrize("by", ["option", "config"])
def test_a_trained_model_is_loaded_at_another_input_size(by, tmp_path):
    """The tables of timm's ViT and Swin are of the stored size until they are loaded."""
    vit = TimmWrapperConfig(
        architecture="vit_tiny_patch16_224", model_args={"img_size": 64, "embed_dim": 48, "depth": 2, "num_heads": 3}
    )
    AssocFormerForMultiLabel(AssocFormerConfig(backbone_config=vit, num_labels=3)).save_pretrained(tmp_path)
    small = AssocFormerForMultiLabel.from_pretrained(tmp_path).eval()
    options = {"image_size": 128}
    if by == "config":
        options = {"config": AssocFormerConfig.from_pretrained(tmp_path, image_size=128)}
    large = AssocFormerForMultiLabel.from_pretrained(tmp_path, **options).eval()
    before = small.backbone.timm_model
    before.set_input_size(img_size=128)
    torch.testing.assert_close(large.backbone.timm_model.pos_embed, before.pos_embed)
    large.save_pretrained(tmp_path / "large")
    again = AssocFormerForMultiLabel.from_pretrained(tmp_path / "large").eval()
    inputs = torch.rand(1, 3, 128, 128)
    torch.testing.assert_close(again(inputs).logits, large(inputs).logits)
    assert again.config.image_size == 128
    for size in (0, "96"):
        with pytest.raises(ConfigurationError, match=f"image_size must be at least 1, got {size!r}"):
            AssocFormerForMultiLabel.from_pretrained(tmp_path, image_size=size)
    small = AssocFormerForMultiLabel.from_pretrained(tmp_path)
    same = AssocFormerForMultiLabel.from_pretrained(None, config=small.config, state_dict=small.state_dict())
    torch.testing.assert_close(same.backbone.timm_model.pos_embed, small.backbone.timm_model.pos_embed)


def test_a_backbone_of_more_than_images_or_without_a_feature_is_named():
    siglip = Siglip2VisionConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    with pytest.raises(ConfigurationError, match="Siglip2VisionModel needs pixel_attention_mask and spatial_shapes"):
        AssocFormerForMultiLabel(AssocFormerConfig(backbone_config=siglip, num_labels=2))
    with pytest.raises(ConfigurationError, match="HGNetV2Backbone gives feature_maps and no last_hidden_state"):
        AssocFormerForMultiLabel(AssocFormerConfig(backbone_config=HGNetV2Config(), num_labels=2))


def test_label_names_come_as_a_list_and_not_beside_another_number(create_model, tmp_path):
    model = AssocFormerForMultiLabel.from_backbone("tiny-cvt", id2label=["cat", "dog"])
    assert (model.config.label_names, model.config.label2id) == (["cat", "dog"], {"cat": 0, "dog": 1})
    with pytest.raises(
        ValueError, match="num_labels is 3, and the number of labels that have names is 2; leave out num_labels"
    ):
        AssocFormerForMultiLabel.from_backbone("tiny-cvt", id2label={0: "cat", 1: "dog"}, num_labels=3)
    with pytest.raises(ConfigurationError, match="id2label must be a list of names, .* got 'cat'"):
        AssocFormerConfig(id2label="cat")
    create_model().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="num_labels is 5, and the number of labels that have names is 2"):
        AssocFormerConfig.from_pretrained(tmp_path, num_labels=5, id2label={0: "cat", 1: "dog"})
    model.config.label_thresholds = [0.1, 0.2]
    model.config.num_labels = 3
    with pytest.raises(ValueError, match="label_thresholds must have one value for each of the 3 labels, got 2"):
        AssocFormerForMultiLabel(model.config)


@pytest.mark.parametrize("tiled", [False, True])
def test_a_traced_model_is_saved_and_takes_other_batches(tiled, tmp_path):
    model = AssocFormerForMultiLabel.from_backbone("tiny-swin", num_labels=3, tiled_association=tiled)
    model.config.return_dict = False
    torch.jit.trace(model, images(2), strict=False).save(tmp_path / "traced.pt")
    inputs = images(4)
    torch.testing.assert_close(torch.jit.load(tmp_path / "traced.pt")(inputs)[0], model(inputs)[0])
