"""Explanations: exact sums, exact counterfactuals, and maps that find the part of an image that matters."""

import copy
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import expit

from assocformer_hf.data.schema import DataError
from assocformer_hf.interpretation.explanation import explain_image, explanation_figure, plot_explanation
from assocformer_hf.interpretation.location import locate
from tests.conftest import NAMES, images

FUSIONS = ("equal", "association", "learnable")


@pytest.fixture(params=FUSIONS)
def model(create_model, request):
    """Random weights; a bias that is not zero, and the learnable alpha away from where it starts."""
    model = create_model(fusion=request.param)
    with torch.no_grad():
        model.head.association.readout.bias.normal_()
        model.head.association.message.bias.normal_()
        if request.param == "learnable":
            model.head.alpha.weight.fill_(0.7)
    return model


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("readout", ["per_label", "shared"])
def test_contributions_sum_to_their_part_of_the_logit(create_model, dtype, readout):
    model = create_model(readout=readout).to(dtype)
    with torch.no_grad():
        model.head.association.readout.bias.normal_()
        expected = 0.5 * (model(images(5).to(dtype)).association_logits - model.head.association.readout.bias)
    found = model.explain(images(5).to(dtype)).sum(-1)
    error = (found - expected).abs().max()
    assert error < (1e-10 if dtype == torch.float64 else 1e-5 * expected.abs().max())


def test_without_a_message_the_logits_change_by_the_contribution(model):
    model, pixel_values = model.double(), images(2).double()
    contributions = model.explain(pixel_values)
    with torch.no_grad():
        before = model(pixel_values).logits
        for j in range(len(NAMES)):
            silenced = copy.deepcopy(model)
            silenced.head.association.message.weight[j] = 0
            silenced.head.association.message.bias[j] = 0
            change = before - silenced(pixel_values).logits
            torch.testing.assert_close(change, contributions[..., j], rtol=0, atol=1e-10)


def test_parts_sum_to_the_logit_and_scores_without_are_those_of_a_silenced_label(model):
    model, pixel_values = model.double(), images(1).double()
    explanation = explain_image(model, pixel_values, labels=["dog", "sofa"])
    with torch.no_grad():
        logits = model(pixel_values).logits[0]
    assert {label.label for label in explanation.labels} == {"dog", "sofa"}
    for label in explanation.labels:
        parts = [label.image, label.bias, label.itself.contribution, *(one.contribution for one in label.influences)]
        assert sum(parts) == pytest.approx(label.logit, abs=1e-10)
        c = NAMES.index(label.label)
        assert label.logit == pytest.approx(logits[c].item(), abs=1e-12)
        assert label.itself.label == label.label
        assert {one.label for one in label.influences} == set(NAMES) - {label.label}
        for one in label.influences:
            silenced = copy.deepcopy(model)
            with torch.no_grad():
                silenced.head.association.message.weight[NAMES.index(one.label)] = 0
                silenced.head.association.message.bias[NAMES.index(one.label)] = 0
                without = silenced(pixel_values).logits[0, c].sigmoid().item()
            assert one.score_without == pytest.approx(without, abs=1e-10)
        assert all(one.contribution > 0 and one.score_without < label.score for one in label.supports)
        assert all(one.contribution < 0 and one.score_without > label.score for one in label.opposes)
        strengths = [abs(one.contribution) for one in label.influences]
        assert strengths == sorted(strengths, reverse=True)


def test_predicted_labels_are_explained_by_falling_score(create_model):
    model = create_model(label_thresholds=[0.0, 1.0, 0.0, 1.0])
    explanation = explain_image(model, images(1))
    assert {label.label for label in explanation.labels} == {"cat", "person"}
    assert explanation.labels[0].score >= explanation.labels[1].score
    none = explain_image(create_model(threshold=1.0), images(1))
    assert [label.label for label in none.labels] == [NAMES[none.scores.argmax()]]
    assert "not predicted (threshold 1.00)" in str(none.labels[0])


def test_explanation_as_text_data_and_figure(create_model, tmp_path):
    explanation = explain_image(create_model(), images(1), labels=["person"])
    text, data = str(explanation.labels[0]), explanation.to_dict()
    assert "person" in text
    assert "supported by" in text
    assert data["scores"].keys() == set(NAMES)
    assert data["explanations"][0]["influences"][0]["label"] in NAMES
    assert explanation.association.shape == explanation.contributions.shape == (4, 4)
    assert data["scores"]["person"] == pytest.approx(expit(explanation.labels[0].logit))
    picture = Image.fromarray(np.zeros((40, 60, 3), dtype=np.uint8))
    plot_explanation(picture, explanation, tmp_path / "why.png", {"person": np.ones((64, 64))})
    assert Image.open(tmp_path / "why.png").width > 600


def test_a_figure_is_as_large_as_what_it_shows(create_model):
    """One panel for each explained label; nothing of the others but their share in numbers."""
    picture = Image.fromarray(np.full((40, 60, 3), 200, dtype=np.uint8))
    sizes = []
    for count in (1, 3, 4):
        labels = list(NAMES[:count])
        explanation = explain_image(create_model(pooling="attention"), images(1), labels=labels)
        figure = explanation_figure(picture, explanation)
        titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
        assert titles == ["picture", *(f"{one.label} {one.score:.2f}" for one in explanation.labels)]
        said = [text.get_text() for axes in figure.axes for text in axes.texts]
        for one in explanation.labels:
            others = sum(part.contribution for part in one.influences)
            assert f"{others:+.2f}" in said
            assert f"{one.influences[0].label} {one.influences[0].contribution:+.2f}" in "\n".join(said)
        sizes.append(figure.get_size_inches() * 100)

    unnamed = explain_image(create_model(), images(1), labels=["cat", "dog"], name_others=False)
    said = [text.get_text() for axes in explanation_figure(picture, unnamed).axes for text in axes.texts]
    assert "second reading" in said
    assert not {"most of these", "other labels"} & set(said)
    assert "second reading" in str(unnamed.labels[0])
    assert not re.search("supported|other labels", str(unnamed.labels[0]))
    assert sizes[0][1] < sizes[1][1] < 420
    assert sizes[2][0] < 1400


def test_a_model_without_association_has_places_and_the_whole_logit(create_model):
    model = create_model(fusion="linear", pooling="attention")
    explanation = explain_image(model, images(1), labels=["cat", "dog"])
    assert explanation.association is explanation.contributions is None
    bias = model.head.embedding.bias.detach().numpy()
    for label in explanation.labels:
        assert label.image == label.logit == pytest.approx(np.log(label.score / (1 - label.score)), abs=1e-5)
        index = NAMES.index(label.label)
        assert explanation.places[index].sum() + bias[index] == pytest.approx(label.logit, abs=1e-5)
        assert str(label).endswith(f"logit {label.logit:+.2f}")
    picture = Image.fromarray(np.full((40, 60, 3), 200, dtype=np.uint8))
    said = [text.get_text() for axes in explanation_figure(picture, explanation).axes for text in axes.texts]
    assert f"{explanation.labels[0].logit:+.2f}" in said
    assert not re.search("second reading|other labels", "\n".join(said))
    assert json.loads(json.dumps(explanation.to_dict()))["explanations"][0]["itself"] is None


def test_each_map_has_a_scale_of_its_own(create_model):
    picture = Image.fromarray(np.full((40, 60, 3), 200, dtype=np.uint8))
    explanation = explain_image(create_model(), images(1), labels=["cat", "dog", "person"])
    strong = np.linspace(0, 1, 16).reshape(4, 4)
    heat = {"cat": 50 * strong, "dog": strong, "person": 0 * strong}
    tiles = [axes.images[0].get_array() for axes in explanation_figure(picture, explanation, heat).axes if axes.images]
    shown = dict(zip(("picture", *(label.label for label in explanation.labels)), tiles, strict=False))
    np.testing.assert_allclose(shown["cat"], shown["dog"])
    assert shown["cat"].std() > 0.05
    assert shown["person"].std() < 1e-3  # nothing speaks for it


def test_what_cannot_be_explained_is_named(create_model):
    with pytest.raises(DataError, match="does not know the label 'unicorn'; it knows cat, dog"):
        explain_image(create_model(), images(1), labels=["unicorn"])
    with pytest.raises(DataError, match="does not know the label 'dogs'; did you mean 'dog'?"):
        explain_image(create_model(), images(1), labels=["cat", "dogs"])
    with pytest.raises(DataError, match=r"labels are a list of names, such as \['cat'\]"):
        explain_image(create_model(), images(1), labels="cat")
    with pytest.raises(ValueError, match="one image"):
        explain_image(create_model(), images(2))
    with pytest.raises(DataError, match="one of occlusion, integrated_gradients; got 'lime'"):
        locate(create_model(), images(1), "cat", "lime")
    with pytest.raises(DataError, match="does not know the label 'unicorn'"):
        locate(create_model(), images(1), "unicorn")


def test_occlusion_and_gradients_find_the_part_that_a_model_looks_at(create_model):
    pytest.importorskip("captum", reason="captum comes with the extra `explain`")
    model = create_model()

    class Corner(torch.nn.Module):
        """The model, but the image is dark outside its upper left quarter."""

        config = model.config

        def forward(self, pixel_values):
            mask = torch.zeros_like(pixel_values)
            mask[..., :32, :32] = 1
            return model(pixel_values * mask)

    for method in ("occlusion", "integrated_gradients"):
        heat = np.abs(locate(Corner(), images(1), "cat", method))
        assert heat.shape == (64, 64)
        assert heat[40:, 40:].max() < 1e-3 * heat[:32, :32].max()


def test_integrated_gradients_sum_to_the_difference_of_the_logits(create_model):
    pytest.importorskip("captum", reason="captum comes with the extra `explain`")
    model, pixel_values = create_model(), images(1)
    heat = locate(model, pixel_values, "dog", "integrated_gradients")
    with torch.no_grad():
        flat = pixel_values.mean((2, 3), keepdim=True).expand_as(pixel_values)
        difference = (model(pixel_values).logits - model(flat).logits)[0, NAMES.index("dog")].item()
    assert heat.sum() == pytest.approx(difference, rel=0.1, abs=0.01)


def test_a_photograph_that_its_exif_turns_is_drawn_upright(create_model, tmp_path):
    pixels = torch.randint(256, (40, 80, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).numpy()
    photo = Image.fromarray(pixels)
    exif = photo.getexif()
    exif[0x0112] = 6  # stored on its side
    photo.save(tmp_path / "photo.png", exif=exif)
    explanation = explain_image(create_model(pooling="attention"), images(1))
    figure = explanation_figure(Image.open(tmp_path / "photo.png"), explanation)
    drawn = [axes.images[0].get_array().shape for axes in figure.axes if axes.images]
    assert drawn[0] == (80, 40, 3)
