"""CvT against transformers' CvT where that is right, and against its definition where it is not."""

import pytest
import torch
from torch import nn
from transformers import CvtConfig, CvtForImageClassification, CvtModel

from assocformer_hf.model.cvt import CvtBackbone, CvtLayer
from assocformer_hf.model.presets import tiny_cvt
from tests.conftest import images


def reference(source=CvtForImageClassification, **config) -> nn.Module:
    """transformers' model, with running statistics as if it had been trained."""
    torch.manual_seed(0)
    model = source(CvtConfig(**tiny_cvt().to_diff_dict() | config)).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.5)
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return model


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("size", [(64, 64), (96, 70)])
def test_evaluation_equals_transformers_cvt(tmp_path, attention, size):
    expected = reference()
    expected.save_pretrained(tmp_path)
    ours = CvtBackbone.from_pretrained(tmp_path, attn_implementation=attention).eval()
    assert ours.config._attn_implementation == attention
    theirs = expected.cvt(images(2, *size), output_hidden_states=True)
    output = ours(images(2, *size), output_hidden_states=True)
    torch.testing.assert_close(output.last_hidden_state, theirs.last_hidden_state, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(output.hidden_states, theirs.hidden_states, rtol=1e-5, atol=1e-5)
    feature = expected.layernorm(theirs.cls_token_value).squeeze(1)
    torch.testing.assert_close(output.pooler_output, feature, rtol=1e-5, atol=1e-5)


def test_without_a_class_token_the_feature_is_the_mean_of_the_normalised_map(tmp_path):
    expected = reference(cls_token=[False, False, False])
    expected.save_pretrained(tmp_path)
    feature = CvtBackbone.from_pretrained(tmp_path).eval()(images()).pooler_output
    tokens = expected.cvt(images()).last_hidden_state.flatten(2).mT
    torch.testing.assert_close(feature, expected.layernorm(tokens).mean(1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("source", [CvtForImageClassification, CvtModel])
def test_checkpoints_of_transformers_load_without_missing_or_unexpected_keys(tmp_path, source):
    checkpoint = reference(source)
    checkpoint.save_pretrained(tmp_path)
    ours, info = CvtBackbone.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    prefix = "cvt." if source is CvtModel else ""
    theirs = {prefix + name: value for name, value in checkpoint.state_dict().items() if "classifier" not in name}
    for name, value in ours.state_dict().items():
        if name in theirs:
            assert torch.equal(value, theirs.pop(name))
    assert theirs == {}


def test_drop_path_rates_rise_linearly_over_the_blocks_of_a_stage():
    config = tiny_cvt()
    config.drop_path_rate, config.depth = [0.0, 0.1, 0.3], [1, 1, 5]
    stages = CvtBackbone(config).cvt.encoder.stages
    rates = [[layer.drop_path.drop_prob for layer in stage.layers] for stage in stages]
    assert rates[:2] == [[0], [0]]
    assert rates[2] == pytest.approx(torch.linspace(0, 0.3, 5).tolist())


@pytest.mark.parametrize("silent", ["attention.output", "output"])
def test_drop_path_drops_whole_branches_and_is_unbiased(silent):
    """One branch is silenced, so that the other's update can be told: dropped, or scaled up by what is kept."""
    rate, draws = 0.4, 20_000
    torch.manual_seed(0)
    layer = CvtLayer(CvtBackbone(tiny_cvt()).config, stage=2, drop_path_rate=rate).eval()
    dense = layer.get_submodule(silent).dense
    nn.init.zeros_(dense.weight)
    nn.init.zeros_(dense.bias)
    tokens = torch.randn(1, 5, 192)
    with torch.no_grad():
        update = layer(tokens, 2, 2) - tokens
        layer.drop_path.train()
        drawn = layer(tokens.expand(draws, -1, -1), 2, 2) - tokens
    kept = drawn.flatten(1).norm(dim=1) > 0
    torch.testing.assert_close(drawn[kept], (update / (1 - rate)).expand(int(kept.sum()), -1, -1))
    assert kept.float().mean().item() == pytest.approx(1 - rate, abs=0.015)  # over 4 standard errors
    torch.testing.assert_close(drawn.mean(0), update[0], rtol=0.03, atol=1e-4)


def test_no_sample_loses_its_state_in_training():
    """At a rate close to 1 nearly all branches are dropped, and the tokens pass as they are."""
    torch.manual_seed(0)
    layer = CvtLayer(CvtBackbone(tiny_cvt()).config, stage=2, drop_path_rate=0.95).train()
    tokens = torch.randn(512, 5, 192)
    output = layer(tokens, 2, 2)
    unchanged = (output == tokens).flatten(1).all(1)
    assert 0.8 < unchanged.float().mean() < 1
    assert output.flatten(1).norm(dim=1).min() > 0.5 * tokens.flatten(1).norm(dim=1).min()


def test_a_projection_that_transformers_does_not_build_either_is_named():
    config = tiny_cvt()
    config.qkv_projection_method = ["dw_bn", "avg", "dw_bn"]
    with pytest.raises(ValueError, match="qkv_projection_method must be 'dw_bn' in every stage of CvT, got 'avg'"):
        CvtBackbone(config)
