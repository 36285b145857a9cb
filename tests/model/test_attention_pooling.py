"""Class-specific residual attention: against its formula, exact by place, and with every kind of backbone."""

import pytest
import torch

from assocformer_hf import AssocFormerForMultiLabel
from assocformer_hf.model.association import AssociationHead
from assocformer_hf.model.configuration_assocformer import ConfigurationError
from tests.conftest import images
from tests.model.test_backbones import BACKBONES


def test_it_is_the_formula_of_the_paper_label_by_label():
    torch.manual_seed(0)
    head = AssociationHead(8, 3, fusion="linear", attention_weight=0.7, attention_temperature=2.0).double()
    places = torch.randn(2, 6, 8, dtype=torch.float64)
    ours = head(places.mean(1), feature_map=places).logits
    for image in range(2):
        for label in range(3):
            weight, bias = head.embedding.weight[label], head.embedding.bias[label]
            scores = places[image] @ weight
            attended = (torch.softmax(2 * scores, 0)[:, None] * places[image]).sum(0)
            feature = places[image].mean(0) + 0.7 * attended
            torch.testing.assert_close(ours[image, label], weight @ feature + bias)


def test_without_weight_it_is_the_mean():
    torch.manual_seed(0)
    head = AssociationHead(8, 3, attention_weight=0.0).double()
    places = torch.randn(2, 6, 8, dtype=torch.float64)
    torch.testing.assert_close(head(places.mean(1), feature_map=places).logits, head(places.mean(1)).logits)


@pytest.mark.parametrize("fusion", ["equal", "learnable", "linear"])
@pytest.mark.parametrize("preset", ["tiny-swin", "tiny-cvt"])
def test_evidence_by_place_adds_up_to_the_logit(create_model, preset, fusion):
    model = create_model(preset, pooling="attention", fusion=fusion)
    model.head.embedding.bias.data.normal_()
    output, places = model(images()), model.explain_places(images())
    factor = 0.5 if fusion == "equal" else 1.0
    expected = factor * (output.embedding_logits - model.head.embedding.bias)
    assert places.shape[:2] == output.logits.shape
    torch.testing.assert_close(places.sum((2, 3)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("preset", ["tiny-swin", "tiny-cvt"])
def test_it_trains_and_comes_back_from_disk(create_model, preset, tmp_path):
    model = create_model(preset, pooling="attention", attention_weight=0.3, attention_temperature=4.0)
    model.train()(images(), labels=torch.tensor([[1.0, 0, -1, 1], [0, 0, 1, 1]])).loss.backward()
    assert model.head.embedding.weight.grad.abs().sum() > 0
    model.eval().save_pretrained(tmp_path)
    again = AssocFormerForMultiLabel.from_pretrained(tmp_path)
    assert (again.config.pooling, again.head.attention_weight, again.head.attention_temperature) == (
        "attention", 0.3, 4.0,
    )  # fmt: skip
    torch.testing.assert_close(again(images()).logits, model(images()).logits)


@pytest.mark.parametrize("kind", BACKBONES)
def test_every_kind_of_backbone_has_a_map(kind, tmp_path):
    torch.manual_seed(0)
    BACKBONES[kind]().save_pretrained(tmp_path)
    model = AssocFormerForMultiLabel.from_backbone(tmp_path, image_size=64, num_labels=5, pooling="attention").eval()
    side = model.explain_places(images()).shape[3]
    assert side > 1
    sizes = [(64, 64)] if kind in ("timm Swin", "timm ViT") else [(64, 64), (64, 96), (96, 64)]  # timm fixes the size
    for height, width in sizes:
        places = model.explain_places(images(2, height, width))
        assert places.shape == (2, 5, side * height // 64, side * width // 64)


def test_rows_of_the_map_are_rows_of_the_image(create_model):
    model = create_model("tiny-swin", pooling="attention", fusion="linear", attention_weight=0.0)
    plain = torch.full((1, 3, 64, 64), 0.5)
    changed = plain.clone()
    changed[..., :16, :] = torch.rand(3, 16, 64)
    difference = (model.explain_places(changed) - model.explain_places(plain)).abs().sum((0, 1))
    assert difference[0].sum() > difference[-1].sum()
    assert difference.sum(1).argmax() == 0


def test_only_attention_says_where(create_model):
    with pytest.raises(ValueError, match='only pooling="attention"'):
        create_model().explain_places(images())
    with pytest.raises(ConfigurationError, match="leaves out"):
        create_model(pooling="attention", fusion="association")
    with pytest.raises(ConfigurationError, match="pooling must be one of mean, attention"):
        create_model(pooling="max")


def test_no_images_have_no_scores():
    head = AssociationHead(8, 3)
    assert head(torch.zeros(0, 8), feature_map=torch.zeros(0, 4, 8)).logits.shape == (0, 3)
