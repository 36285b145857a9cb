"""The model where other libraries touch it: loading options, compilers, Trainer, PEFT."""

import json
from copy import deepcopy

import numpy as np
import pytest
import torch
from accelerate import cpu_offload, disk_offload
from peft import LoraConfig, PeftModel, get_peft_model
from PIL import Image
from safetensors.torch import load_file, save_file
from scipy.special import expit
from transformers import Trainer, TrainingArguments, pipeline
from transformers.models.timm_wrapper import TimmWrapperConfig

from assocformer_hf import AssocFormerConfig, AssocFormerForMultiLabel, multilabel_metrics
from assocformer_hf.data.images.dataset import MultiLabelCollator, MultiLabelImages
from assocformer_hf.data.images.transforms import create_image_processor, evaluation_transform
from assocformer_hf.data.scenes.scenes import load_scenes
from assocformer_hf.data.schema import label_names
from assocformer_hf.interpretation.explanation import explain_image
from tests.conftest import SHALLOW_BACKBONES, TINY_BACKBONES, images

LABELS = torch.tensor([[1.0, 0.0, -1.0, 0.0], [0.0, 0.0, 1.0, 1.0]])


@pytest.fixture(params=TINY_BACKBONES)
def model(request, create_model):
    return create_model(request.param)


@pytest.fixture(params=SHALLOW_BACKBONES)
def shallow(request, create_model):
    return create_model(request.param)


@pytest.fixture
def folder(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_sharded_checkpoints(model, tmp_path):
    model.save_pretrained(tmp_path, max_shard_size="1MB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    loaded = AssocFormerForMultiLabel.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(images()).logits, model(images()).logits, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_the_head_in_float32(model, folder, dtype):
    half = AssocFormerForMultiLabel.from_pretrained(folder, dtype=dtype)
    assert {parameter.dtype for parameter in half.backbone.parameters()} == {dtype}
    assert {parameter.dtype for parameter in half.head.parameters()} == {torch.float32}
    output = half(images().to(dtype), labels=LABELS)
    assert output.logits.dtype == torch.float32
    torch.testing.assert_close(output.logits, model(images()).logits, rtol=0.1, atol=0.1)
    output.loss.backward()
    assert all(p.grad.isfinite().all() for p in half.parameters() if p.grad is not None)


@pytest.mark.parametrize("options", [{"device_map": "auto"}, {"device_map": "cpu"}, {"low_cpu_mem_usage": True}])
def test_loading_options(model, folder, options):
    loaded = AssocFormerForMultiLabel.from_pretrained(folder, **options)
    on_cpu = loaded.device.type == "cpu"  # "auto" takes a GPU, whose convolutions are in TF32
    tolerances = {"rtol": 0, "atol": 0} if on_cpu else {"rtol": 1e-3, "atol": 1e-3}
    logits = loaded(images().to(loaded.device)).logits.cpu()
    torch.testing.assert_close(logits, model(images()).logits, **tolerances)


def test_parts_that_must_not_be_split_are_parts_of_the_model(model):
    classes = {type(module).__name__ for module in model.modules()}
    unit = "CvtLayer" if model.config.backbone_config.model_type == "cvt" else "TimmWrapperModel"
    assert {"AssociationHead", unit} <= set(model._no_split_modules) <= classes


def test_another_label_set_gets_a_fresh_head_on_the_same_backbone(model, folder):
    names = {i: f"label {i}" for i in range(7)}
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        AssocFormerForMultiLabel.from_pretrained(folder, id2label=names)
    loaded = AssocFormerForMultiLabel.from_pretrained(folder, id2label=names, ignore_mismatched_sizes=True)
    assert loaded(images()).logits.shape == (2, 7)
    assert loaded.config.label2id["label 6"] == 6
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(loaded.backbone.state_dict()[name], value)


def test_values_given_when_loading_are_checked_like_any(folder):
    assert AssocFormerForMultiLabel.from_pretrained(folder, threshold=0.3).config.threshold == 0.3
    with pytest.raises(ValueError, match="fusion must be one of equal"):
        AssocFormerForMultiLabel.from_pretrained(folder, fusion="sum")


def test_missing_weights_are_initialised_as_in_a_new_model(folder):
    path = folder / "model.safetensors"
    save_file({k: v for k, v in load_file(path).items() if "head." not in k}, path, metadata={"format": "pt"})
    loaded, info = AssocFormerForMultiLabel.from_pretrained(folder, output_loading_info=True)
    assert info["missing_keys"] == {f"head.{name}" for name in loaded.head.state_dict()}
    key = loaded.head.association.key
    assert key.weight.std().item() == pytest.approx(key.initial_std, rel=0.6)
    assert key.bias.abs().max() == 0


def test_only_the_head_of_the_model_stays_in_float32(tmp_path):
    """EfficientNet has a `conv_head`, MobileNet too, ConvNeXt a `head.norm`: their halves would not fit together."""
    for architecture in ("efficientnet_b0", "convnext_atto"):
        config = TimmWrapperConfig(architecture=architecture, model_args={"drop_path_rate": 0.0})
        model = AssocFormerForMultiLabel(AssocFormerConfig(backbone_config=config, num_labels=4))
        assert any(".head" in name or "_head" in name for name in model.backbone.state_dict())
        model.save_pretrained(tmp_path)
        half = AssocFormerForMultiLabel.from_pretrained(tmp_path, dtype=torch.bfloat16)
        assert {parameter.dtype for parameter in half.backbone.parameters()} == {torch.bfloat16}
        assert {parameter.dtype for parameter in half.head.parameters()} == {torch.float32}
        assert half(images()).logits.isfinite().all()


@pytest.mark.parametrize("fusion", ["equal", "learnable", "linear"])
@pytest.mark.parametrize("tiled", [False, True])
def test_weights_that_lie_elsewhere_until_they_are_needed(create_model, tmp_path, fusion, tiled):
    """A weight on the `meta` device is of no use: each part of the head must be called for the hooks to bring it."""
    model = create_model("tiny-cvt", fusion=fusion, tiled_association=tiled, pooling="attention")
    model.save_pretrained(tmp_path / "model")
    expected = model(images()).logits
    device_map = {"backbone": "cpu", "head": "disk"}
    mapped = AssocFormerForMultiLabel.from_pretrained(
        tmp_path / "model", device_map=device_map, offload_folder=tmp_path / "mapped"
    )
    assert mapped.head.embedding.weight.is_meta
    offloaded = [mapped, cpu_offload(deepcopy(model), torch.device("cpu"))]
    offloaded.append(disk_offload(deepcopy(model), tmp_path / "disk", torch.device("cpu")))
    for other in offloaded:
        torch.testing.assert_close(other(images()).logits, expected)
        torch.testing.assert_close(other.explain_places(images()), model.explain_places(images()))
        if fusion != "linear":
            torch.testing.assert_close(other.explain(images()), model.explain(images()))
            here, there = (explain_image(one, images()[:1]).labels for one in (model, other))
            assert [one.label for one in here] == [one.label for one in there]


def test_the_model_runs_without_memory_on_the_meta_device(create_model):
    for tiled in (False, True):
        model = create_model("tiny-cvt", tiled_association=tiled).to("meta").train()
        output = model(images().to("meta"), labels=LABELS.to("meta"))
        output.loss.backward()
        assert output.logits.shape == (2, 4)
        assert output.logits.is_meta


@pytest.mark.parametrize("tiled", [False, True])
def test_a_backward_pass_under_autocast_has_the_gradients_of_float32(create_model, tiled):
    """Where the whole training step stands under autocast; the head computes in float32."""
    head = create_model("tiny-cvt", tiled_association=tiled).head
    gradients = []
    for enabled in (False, True):
        features = images(2, 8, 8).flatten(1).requires_grad_()
        head.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            scores = head(features)
            scores.association_logits.square().mean().backward()
        gradients.append([features.grad, *(parameter.grad for parameter in head.association.parameters())])
    torch.testing.assert_close(*gradients)


def test_cvt_in_half_precision_takes_images_in_float32(create_model):
    model = create_model("tiny-cvt")
    half = deepcopy(model).to(torch.bfloat16)
    torch.testing.assert_close(half(images()).logits, model(images()).logits, rtol=0.1, atol=0.1)


def test_explaining_in_training_mode_changes_nothing_and_explains_evaluation(create_model):
    model = create_model("tiny-cvt", pooling="attention")
    expected, places = model.explain(images()), model.explain_places(images())
    model.train()
    model.backbone.cvt.encoder.stages[0].eval()  # as of one who freezes the first stage
    before, modes = deepcopy(model.state_dict()), [module.training for module in model.modules()]
    torch.testing.assert_close(model.explain(images()), expected)
    torch.testing.assert_close(model.explain_places(images()), places)
    torch.testing.assert_close(dict(model.state_dict()), dict(before), rtol=0, atol=0)
    assert [module.training for module in model.modules()] == modes


def test_hidden_states_on_request_and_by_configuration(model):
    assert model(images()).hidden_states is None
    states = model(images(), output_hidden_states=True).hidden_states
    assert len(states) >= 3
    model.config.output_hidden_states = True
    assert len(model(images()).hidden_states) == len(states)
    model.config.output_hidden_states = False


def test_evaluation_is_deterministic_and_does_not_depend_on_the_batch(model):
    scores = model(images(5)).logits
    assert torch.equal(scores, model(images(5)).logits)
    one_by_one = torch.cat([model(image[None]).logits for image in images(5)])
    torch.testing.assert_close(scores, one_by_one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_attention_implementation_reaches_the_backbone(create_model, tmp_path, attention):
    model = create_model("tiny-cvt")
    model.save_pretrained(tmp_path)
    loaded = AssocFormerForMultiLabel.from_pretrained(tmp_path, attn_implementation=attention)
    assert loaded.backbone.config._attn_implementation == attention
    assert create_model("tiny-cvt").backbone.config._attn_implementation == "sdpa"
    torch.testing.assert_close(loaded(images()).logits, model(images()).logits, rtol=1e-4, atol=1e-5)


def test_gradient_checkpointing_gives_the_same_gradients(model):
    def gradients():
        model.zero_grad()
        model(images(), labels=LABELS).loss.backward()
        return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}

    model.train()
    expected = gradients()
    model.gradient_checkpointing_enable()
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x.numel()) or x, lambda x: x):
        actual = gradients()
    model.gradient_checkpointing_disable()
    everything = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: everything.append(x.numel()) or x, lambda x: x):
        gradients()
    torch.testing.assert_close(actual, expected)
    assert len(saved) < 0.7 * len(everything)


def test_compiles_without_graph_breaks_for_inference_and_training(shallow):
    expected = shallow(images()).logits
    compiled = torch.compile(shallow, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(images()).logits, expected, rtol=1e-4, atol=1e-5)
    shallow.train()
    compiled(images(), labels=LABELS).loss.backward()
    assert all(parameter.grad is not None for parameter in shallow.parameters())


def test_exports_with_a_dynamic_batch(shallow):
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(
        shallow, (), {"pixel_values": images(3)}, dynamic_shapes={"pixel_values": {0: batch}}, strict=False
    )
    torch.testing.assert_close(program.module()(pixel_values=images(5)).logits, shallow(images(5)).logits)


def test_the_trainer_of_transformers_fine_tunes_it(create_model, tmp_path):
    scenes = load_scenes("train", size=24)
    names = label_names(scenes)
    model = create_model("tiny-cvt", id2label=dict(enumerate(names)))
    dataset = MultiLabelImages(scenes, evaluation_transform(create_image_processor(64)))
    arguments = TrainingArguments(
        tmp_path, num_train_epochs=6, per_device_train_batch_size=8, learning_rate=2e-3, gradient_accumulation_steps=2,
        remove_unused_columns=False, report_to="none", use_cpu=True, logging_steps=1, label_names=["labels"],
    )  # fmt: skip
    trainer = Trainer(
        model,
        arguments,
        data_collator=MultiLabelCollator(len(names)),
        train_dataset=dataset,
        eval_dataset=dataset,
        compute_metrics=lambda p: {"mAP": multilabel_metrics(expit(p.predictions), p.label_ids)["mAP"]},
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0]
    # A mean over the batches that are accumulated, not their sum: the loss is near 1.1 = 0.1 * ||A|| + eq. 8.
    assert losses[0] < 1.5
    assert 0 < trainer.evaluate()["eval_mAP"] <= 1
    trainer.save_model(tmp_path / "final")
    assert json.loads((tmp_path / "final/config.json").read_text())["model_type"] == "assocformer"


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_lora_on_all_linear_layers_acts_on_the_heads_too(create_model, pooling):
    model = create_model("tiny-cvt", pooling=pooling)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    embedding = adapted.base_model.model.head.embedding
    assert hasattr(embedding, "lora_A")
    adapted(pixel_values=images(), labels=LABELS).loss.backward()
    assert all(p.grad is not None and p.grad.any() for name, p in adapted.named_parameters() if p.requires_grad)
    expected = adapted(pixel_values=images()).logits
    torch.testing.assert_close(adapted.merge_and_unload()(images()).logits, expected, rtol=1e-4, atol=1e-5)


def test_lora_trains_adapters_and_the_whole_head(create_model, tmp_path):
    model = create_model("tiny-cvt")
    model.save_pretrained(tmp_path / "base")
    targets = ["projection_query", "projection_value"]
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=targets, modules_to_save=["head"]))
    trainable = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert all("lora_" in name or "head.modules_to_save" in name for name in trainable)
    optimizer = torch.optim.Adam([p for p in adapted.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(3):
        adapted(pixel_values=images(), labels=LABELS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    adapted.save_pretrained(tmp_path / "adapter")
    base = AssocFormerForMultiLabel.from_pretrained(tmp_path / "base")
    before = base(images()).logits
    again = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    after = again(pixel_values=images()).logits
    torch.testing.assert_close(after, adapted.eval()(pixel_values=images()).logits)
    assert (after - before).abs().max() > 1e-3


def test_pipeline_options(model, folder):
    create_image_processor(64).save_pretrained(folder)
    pixels = np.random.default_rng(0).integers(0, 255, (5, 80, 60, 3), dtype=np.uint8)
    pictures = [Image.fromarray(values) for values in pixels]
    tagger = pipeline("image-classification", model=str(folder))
    one_by_one = [tagger(picture, top_k=2) for picture in pictures]
    together = tagger(pictures, batch_size=3, top_k=2)
    for left, right in zip(one_by_one, together, strict=True):
        assert [row["label"] for row in left] == [row["label"] for row in right]
        assert [row["score"] for row in left] == pytest.approx([row["score"] for row in right], abs=1e-5)
        assert len(left) == 2
