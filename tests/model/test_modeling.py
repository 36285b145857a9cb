"""The model as users of transformers meet it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageClassification,
    BertConfig,
    CLIPConfig,
    CvtForImageClassification,
    CvtModel,
    pipeline,
)

from assocformer_hf import AssocFormerConfig, AssocFormerForMultiLabel
from assocformer_hf.data.images.transforms import create_image_processor
from assocformer_hf.model.configuration_assocformer import ASSOCIATION_NORMS, FUSIONS, ConfigurationError
from assocformer_hf.model.presets import BACKBONE_PRESETS
from tests.conftest import NAMES, TINY_BACKBONES, images

SMALL = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}


@pytest.fixture(params=TINY_BACKBONES)
def saved(request, create_model, tmp_path):
    """A model, and the folder in which it was saved with its processor."""
    return save(create_model(request.param), tmp_path / "model")


def save(model: AssocFormerForMultiLabel, folder: Path) -> tuple[AssocFormerForMultiLabel, Path]:
    model.save_pretrained(folder)
    create_image_processor(64).save_pretrained(folder)
    return model, folder


def test_the_output_has_the_documented_shapes(create_model):
    labels = torch.tensor([[1, 0, -1, 0], [0, 0, 1, 1]])
    output = create_model()(images(), labels=labels, output_association=True, output_hidden_states=True)
    assert output.loss.shape == ()
    assert output.logits.shape == output.association_logits.shape == output.embedding_logits.shape == (2, 4)
    assert output.association.shape == (2, 4, 4)
    assert len(output.hidden_states) == 3
    penalty = torch.linalg.matrix_norm(output.association).mean()
    torch.testing.assert_close(output.association_penalty, penalty)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"gamma_pos": 1.0, "gamma_neg": 4.0, "clip": 0.1, "association_weight": 0.7, "association_norm": "l1"},
        {"gamma_neg": 0.0, "association_norm": "none"},
    ],
    ids=["paper", "other", "cross-entropy"],
)
def test_the_loss_is_that_of_equations_8_and_9(create_model, config):
    labels = torch.tensor([[1, 0, -1, 0], [0, 0.3, 1, 1]])
    output = create_model(**config)(images(), labels=labels)
    gamma_pos, gamma_neg = config.get("gamma_pos", 0.0), config.get("gamma_neg", 2.0)
    p = output.logits.sigmoid()
    absent = (p - config.get("clip", 0.0)).clamp(min=0)
    losses = -labels * (1 - p) ** gamma_pos * p.log() - (1 - labels) * absent**gamma_neg * (1 - absent).log()
    known = labels >= 0
    expected = ((losses * known).sum(1) / known.sum(1)).mean()
    if config.get("association_norm") != "none":
        expected = expected + config.get("association_weight", 0.1) * output.association_penalty
    torch.testing.assert_close(output.loss, expected)


def test_association_is_returned_on_request_only(create_model):
    output = create_model()(images())
    assert output.association is None
    assert output.loss is None


def test_a_tuple_holds_what_the_output_holds(create_model):
    model = create_model()
    output = model(images(), return_dict=False)
    assert isinstance(output, tuple)
    torch.testing.assert_close(output[0], model(images()).logits)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("norm", ASSOCIATION_NORMS)
def test_every_fusion_and_norm_trains(create_model, fusion, norm):
    model = create_model(fusion=fusion, association_norm=norm).train()
    model(images(), labels=torch.ones(2, 4)).loss.backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert missing == []


def test_saved_model_is_safetensors_with_remote_code_and_sigmoid_scores(saved):
    _, folder = saved
    files = {path.name for path in folder.iterdir()}
    assert {"model.safetensors", "config.json", "preprocessor_config.json", "modeling_assocformer.py"} <= files
    assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in files)
    config = json.loads((folder / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    assert config["auto_map"] == {
        "AutoConfig": "configuration_assocformer.AssocFormerConfig",
        "AutoModelForImageClassification": "modeling_assocformer.AssocFormerForMultiLabel",
    }


@pytest.mark.parametrize("auto", [AssocFormerForMultiLabel, AutoModelForImageClassification])
def test_round_trip(saved, auto):
    model, folder = saved
    loaded = auto.from_pretrained(folder)
    assert type(loaded) is AssocFormerForMultiLabel
    assert AutoConfig.from_pretrained(folder).id2label == dict(enumerate(NAMES))
    torch.testing.assert_close(loaded(images()).logits, model(images()).logits, rtol=0, atol=0)


def test_pipeline_gives_sigmoid_scores_of_the_saved_processor(saved):
    model, folder = saved
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8))
    tagger = pipeline("image-classification", model=str(folder), device="cpu")
    inputs = AutoImageProcessor.from_pretrained(folder)(images=image, return_tensors="pt")
    scores = model(**inputs).logits.sigmoid()[0]
    result = tagger(image)
    assert [row["score"] for row in result] == sorted((row["score"] for row in result), reverse=True)
    for row in result:
        assert row["score"] == pytest.approx(scores[NAMES.index(row["label"])].item(), abs=1e-6)


def test_remote_code_gives_the_same_scores_where_the_package_is_not_installed(create_model, tmp_path):
    saved = [save(create_model(preset), tmp_path / preset) for preset in TINY_BACKBONES]
    torch.save(images(), tmp_path / "images.pt")
    Image.new("RGB", (70, 50)).save(tmp_path / "image.png")
    script = f"""
import sys
sys.modules["assocformer_hf"] = None  # any import of the package fails
import torch
from transformers import AutoImageProcessor, AutoModelForImageClassification, pipeline
for folder in {[folder.name for _, folder in saved]}:
    processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=True)
    assert type(processor).__name__ == "AssocFormerImageProcessor"
    assert processor.decode("image.png").size == (70, 50)
    model = AutoModelForImageClassification.from_pretrained(folder, trust_remote_code=True)
    tagger = pipeline("image-classification", model=folder, trust_remote_code=True)
    assert len(tagger("image.png")) == 4
    torch.save(model(torch.load("images.pt")).logits, folder + "/logits.pt")
    model.save_pretrained(folder + "/again")
"""
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for model, folder in saved:
        torch.testing.assert_close(torch.load(folder / "logits.pt"), model(images()).logits)
        assert (folder / "again/modeling_assocformer.py").exists()


def test_a_timm_that_gives_other_scores_is_refused_where_the_package_is_not_installed(create_model, tmp_path):
    _, folder = save(create_model("tiny-swin"), tmp_path / "model")
    listed = tmp_path / "older/timm-1.0.23.dist-info"  # what pip leaves of a version
    listed.mkdir(parents=True)
    (listed / "METADATA").write_text("Metadata-Version: 2.1\nName: timm\nVersion: 1.0.23\n")
    script = f"""
import sys
sys.modules["assocformer_hf"] = None
from transformers import AutoModelForImageClassification
AutoModelForImageClassification.from_pretrained({str(folder)!r}, trust_remote_code=True)
"""
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "PATH": "/usr/bin:/bin"}
    environment["PYTHONPATH"] = str(listed.parent)
    done = subprocess.run([sys.executable, "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert 'this timm is too old, and may give other scores: pip install -U "timm>=1.0.31"' in done.stderr
    assert "found timm==1.0.23" in done.stderr


def test_from_backbone_keeps_the_backbone_of_timm_and_starts_a_fresh_head(create_model, tmp_path):
    backbone = create_model("tiny-swin").backbone
    backbone.save_pretrained(tmp_path)
    model = AssocFormerForMultiLabel.from_backbone(tmp_path, id2label={0: "a", 1: "b"}, fusion="learnable")
    for name, value in backbone.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[name], value)
    assert model.config.id2label == {0: "a", 1: "b"}
    assert model.head.alpha.weight == 1


@pytest.mark.parametrize("preset", TINY_BACKBONES)
def test_the_head_starts_with_association_logits_of_standard_deviation_one(create_model, preset):
    module = create_model(preset, id2label={i: str(i) for i in range(200)}).head.association
    features = torch.randn(8, module.readout.kernel_size[0])
    logits = torch.logit(module(features)[0])
    off_diagonal = logits[:, ~torch.eye(200, dtype=torch.bool)]
    assert off_diagonal.std().item() == pytest.approx(1, rel=0.25)


@pytest.mark.parametrize("source", [CvtForImageClassification, CvtModel])
def test_from_backbone_reads_both_kinds_of_cvt_checkpoint(source, tmp_path):
    torch.manual_seed(0)
    checkpoint = source(BACKBONE_PRESETS["tiny-cvt"]()).eval()
    checkpoint.save_pretrained(tmp_path)
    model = AssocFormerForMultiLabel.from_backbone(tmp_path, num_labels=3).eval()
    cvt = checkpoint if source is CvtModel else checkpoint.cvt
    for name, value in cvt.state_dict().items():
        assert torch.equal(model.backbone.cvt.state_dict()[name], value)
    token = cvt(images()).cls_token_value.squeeze(1)
    norm = checkpoint.layernorm if source is CvtForImageClassification else torch.nn.LayerNorm(token.shape[-1])
    torch.testing.assert_close(model.backbone(images()).pooler_output, norm(token))


def test_the_feature_of_swin_is_the_pooled_output_of_timm(create_model):
    backbone = create_model("tiny-swin").backbone
    expected = backbone.timm_model(images())
    torch.testing.assert_close(backbone(images()).pooler_output, expected)


def test_explanations_are_exact(create_model):
    model = create_model()
    contributions, output = model.explain(images()), model(images())
    bias = model.head.association.readout.bias
    torch.testing.assert_close(contributions.sum(-1), 0.5 * (output.association_logits - bias), rtol=1e-5, atol=1e-5)
    features = model(images(), output_features=True).features
    chosen = torch.tensor([[3, 1], [0, 2]])
    association, rows = model.head.explain(features, chosen)
    torch.testing.assert_close(rows, contributions.take_along_dim(chosen[..., None], 1))
    whole = model(images(), output_association=True).association
    torch.testing.assert_close(association, whole.take_along_dim(chosen[..., None], 1))


def test_a_linear_head_has_nothing_to_explain(create_model):
    with pytest.raises(ValueError, match="no association module"):
        create_model(fusion="linear").explain(images())


def test_labels_of_the_wrong_width_are_named(create_model):
    with pytest.raises(ValueError, match=r"\(2, 4\), got \(2, 7\)"):
        create_model()(images(), labels=torch.zeros(2, 7))


def test_thresholds_of_other_labels_are_not_taken_over(create_model):
    config = create_model(label_thresholds=[0.1, 0.2, 0.3, 0.4]).config.to_dict()
    same = AssocFormerConfig.from_dict(config, id2label=config["id2label"])
    assert same.label_thresholds == [0.1, 0.2, 0.3, 0.4]
    for names in ({0: "x", 1: "y", 2: "z", 3: "w"}, {0: "x", 1: "y"}):
        assert AssocFormerConfig.from_dict(config, id2label=names).label_thresholds is None
        assert AssocFormerConfig.from_dict(config, label2id={n: i for i, n in names.items()}).label_thresholds is None
    assert AssocFormerConfig.from_dict(config, num_labels=5).label_thresholds is None
    assert AssocFormerConfig.from_dict(config | {"threshold": 0.3}, num_labels=5).threshold == 0.5
    assert AssocFormerConfig.from_dict(config, num_labels=4).label_thresholds == [0.1, 0.2, 0.3, 0.4]
    assert AssocFormerConfig.from_dict(config, threshold=0.3).thresholds == [0.3] * 4
    unnamed = AssocFormerConfig(label_thresholds=[0.1, 0.9]).to_dict()
    assert AssocFormerConfig.from_dict(unnamed, num_labels=2).thresholds == [0.1, 0.9]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fusion": "sum"}, "fusion must be one of equal, association, learnable, linear; got 'sum'"),
        ({"association_norm": "l3"}, "association_norm must be one of l2, l1, l1_l2, nuclear, none; got 'l3'"),
        ({"readout": "both"}, "readout must be one of per_label, shared; got 'both'"),
        ({"association_kernel_size": 4}, "association_kernel_size must be odd, such as 1, 3 or 5; got 4"),
        ({"gamma_neg": -1}, "gamma_neg must be at least 0 and finite, got -1"),
        ({"clip": 1}, "clip must be below 1"),
        ({"threshold": 1.5}, "threshold must be between 0 and 1, got 1.5"),
        ({"label_thresholds": [0.5]}, "label_thresholds must have one value for each of the 2 labels, got 1"),
        ({"id2label": {0: "a", 1: " "}}, "id2label names a label ' '; every label needs a name, as text"),
        ({"id2label": {0: "a", 1: 2}}, "id2label names a label 2; every label needs a name, as text"),
        ({"backbone_config": AssocFormerConfig()}, "backbone_config is that of an AssocFormer"),
        ({"id2label": {0: "a", 1: "a"}}, "id2label names 'a' more than once"),
        ({"id2label": {1: "a", 2: "b"}}, r"id2label must number the labels 0 to 1, got \[1, 2\]"),
        ({"backbone_config": {"model_type": "nothing"}}, "backbone_config must be .*; got 'nothing'"),
        ({"problem_type": "regression"}, "problem_type must be one of multi_label_classification"),
    ],
)
def test_configuration_names_what_is_wrong(values, message):
    with pytest.raises(ValueError, match=message):
        AssocFormerConfig(**values)


def test_numbers_of_numpy_are_saved_as_numbers(tmp_path):
    config = AssocFormerConfig(id2label=["a", "b"], label_thresholds=np.array([0.25, 0.75], np.float32))
    config.threshold = np.float32(0.5)
    config.save_pretrained(tmp_path)
    again = AssocFormerConfig.from_pretrained(tmp_path)
    assert (again.thresholds, again.threshold) == ([0.25, 0.75], 0.5)


def test_a_configuration_that_could_not_be_loaded_is_not_saved(tmp_path):
    config = AssocFormerConfig(id2label=["a", "b"])
    config.save_pretrained(tmp_path)
    before = (tmp_path / "config.json").read_text()
    config.threshold = 1.5
    with pytest.raises(ValueError, match="threshold must be between 0 and 1, got 1.5"):
        config.save_pretrained(tmp_path)
    assert (tmp_path / "config.json").read_text() == before


def test_labels_in_another_order_are_no_new_names(create_model, tmp_path):
    """Weights know the places of labels alone: renamed so, each would be called as another."""
    create_model().save_pretrained(tmp_path)
    names = AssocFormerConfig.from_pretrained(tmp_path).label_names
    turned = dict(enumerate(names[::-1]))
    for changes in ({"id2label": turned}, {"label2id": {name: i for i, name in turned.items()}}):
        with pytest.raises(
            ConfigurationError, match=f"another order: 0 is '{names[0]}' in the model, and '{names[-1]}'"
        ):
            AssocFormerForMultiLabel.from_pretrained(tmp_path, **changes)
    for same in (names, dict(enumerate(names))):
        assert AssocFormerForMultiLabel.from_pretrained(tmp_path, id2label=same).config.label_names == names
    others = [name.upper() for name in names]
    assert AssocFormerForMultiLabel.from_pretrained(tmp_path, id2label=others).config.label_names == others


def test_names_that_are_given_later_are_numbered_both_ways(create_model, tmp_path):
    model = create_model()
    others = [name.upper() for name in model.config.label_names]
    model.config.id2label = dict(enumerate(others))
    assert model.config.label2id == {name: i for i, name in enumerate(others)}
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["label2id"] == model.config.label2id
    model.config.id2label = {0: "a", 1: "b"}
    before = (tmp_path / "config.json").read_text()
    for use in (lambda: model(images()), lambda: model.save_pretrained(tmp_path)):
        with pytest.raises(ConfigurationError, match="num_labels is 2 in the configuration, and 4 in the head"):
            use()
    assert (tmp_path / "config.json").read_text() == before


def test_a_configuration_that_the_head_was_not_built_with_is_refused(create_model, tmp_path):
    model = create_model(pooling="attention")
    model.config.attention_temperature = 3.0
    for use in (lambda: model(images()), lambda: model.save_pretrained(tmp_path)):
        with pytest.raises(ValueError, match="attention_temperature is 3.0 in the configuration, and 1.0 in the head"):
            use()
    assert not list(tmp_path.iterdir())


def test_pixels_that_were_not_scaled_are_refused(create_model):
    with pytest.raises(ValueError, match="pixel_values must be floating-point numbers .*, got torch.uint8"):
        create_model()(images().to(torch.uint8))


def test_labels_that_are_no_tensor_are_named(create_model):
    with pytest.raises(ValueError, match=r"multi-hot tensor with the shape of the logits .* got a list"):
        create_model()(images(), labels=[[0, 0, 1, 0]] * 2)


@pytest.mark.parametrize("config", [BertConfig(**SMALL), CLIPConfig(text_config=SMALL, vision_config=SMALL)])
def test_a_backbone_that_takes_no_images_is_named(config):
    with pytest.raises(ValueError, match="takes input_ids, not images; use a vision backbone"):
        AssocFormerForMultiLabel(AssocFormerConfig(backbone_config=config))


def test_a_backbone_of_timm_needs_its_architecture_alone():
    config = AssocFormerConfig(backbone_config={"model_type": "timm_wrapper", "architecture": "resnet18"})
    assert AssocFormerForMultiLabel(config).head.embedding.in_features == 512


def test_a_missing_backbone_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere: neither a folder"):
        AssocFormerForMultiLabel.from_backbone(tmp_path / "nowhere")


@pytest.mark.parametrize(("preset", "millions", "size"), [("swin-large", 195.2, 1536), ("cvt-w24", 276.2, 1024)])
def test_full_size_backbones_have_the_papers_size(preset, millions, size):
    config = AssocFormerConfig(backbone_config=BACKBONE_PRESETS[preset](384), num_labels=80)
    with torch.device("meta"):
        model = AssocFormerForMultiLabel(config)
    assert model.backbone.num_parameters() / 1e6 == pytest.approx(millions, abs=0.05)
    head = sum(parameter.numel() for parameter in model.head.parameters())
    assert head == 2 * 80 * (size + 1) + 2 * 80 * 4


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["swin-large", "cvt-w24"])
def test_full_size_models_run_forward_and_backward_at_384(preset):
    model = AssocFormerForMultiLabel(AssocFormerConfig(backbone_config=BACKBONE_PRESETS[preset](384), num_labels=80))
    output = model.train()(images(1, 384, 384), labels=torch.ones(1, 80))
    output.loss.backward()
    assert output.logits.shape == (1, 80)
    assert all(parameter.grad is not None for parameter in model.parameters())
