"""Optimizer and schedule against the recipe."""

import pytest
import torch

from assocformer_hf.training.optimization import create_optimizer, create_scheduler, parameter_groups


def test_only_weights_decay(create_model):
    model = create_model(fusion="learnable")
    decaying, free = parameter_groups(model, 0.01)
    by_id = {id(parameter): name for name, parameter in model.named_parameters()}
    assert decaying["weight_decay"] == 0.01
    assert free["weight_decay"] == 0
    assert {by_id[id(p)] for p in free["params"]} >= {
        "head.alpha.weight", "head.embedding.bias", "backbone.layernorm.weight", "head.association.key.bias",
    }  # fmt: skip
    assert all(parameter.ndim > 1 for parameter in decaying["params"])
    assert len(decaying["params"]) + len(free["params"]) == len(by_id)


def test_frozen_parameters_are_left_out(create_model):
    model = create_model()
    model.backbone.requires_grad_(False)
    count = sum(len(group["params"]) for group in parameter_groups(model, 0.01))
    assert count == len(list(model.head.parameters()))


def test_weight_decay_is_decoupled():
    weight = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = create_optimizer(torch.nn.ParameterList([weight]), learning_rate=0.1, weight_decay=0.5)
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    torch.testing.assert_close(weight.data, torch.full((2, 2), 1 - 0.1 * 0.5))  # not scaled by Adam's denominator


def test_one_cycle_rises_for_its_share_and_falls_to_zero():
    weight = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = create_optimizer(torch.nn.ParameterList([weight]), learning_rate=1e-4, weight_decay=0)
    scheduler = create_scheduler(optimizer, total_steps=101, pct_start=0.2)
    rates = [scheduler.get_last_lr()[0]]
    for _ in range(100):
        optimizer.step()
        scheduler.step()
        rates.append(scheduler.get_last_lr()[0])
    assert max(rates) == pytest.approx(1e-4, rel=1e-3)
    assert rates.index(max(rates)) == pytest.approx(0.2 * 101, abs=2)
    assert rates[-1] < 1e-8


def test_the_head_may_decay_more_than_the_backbone(create_model):
    model = create_model()
    optimizer = create_optimizer(model, 1e-3, weight_decay=0.5, head_weight_decay=7.0)
    decay_of = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    decays = {name: decay_of[id(parameter)] for name, parameter in model.named_parameters()}
    assert {decays[name] for name in decays if name.startswith("head.") and name.endswith("weight")} == {7.0}
    assert {decays[name] for name in decays if name.startswith("backbone.")} == {0.5, 0.0}
    assert decays["head.embedding.bias"] == 0


def test_a_pretrained_backbone_may_have_a_rate_of_its_own(create_model):
    model = create_model()
    optimizer = create_optimizer(model, 1e-3, weight_decay=0, backbone_learning_rate=1e-4)
    scheduler = create_scheduler(optimizer, total_steps=11, pct_start=0.2)
    rate_of = {id(p): group["max_lr"] for group in optimizer.param_groups for p in group["params"]}
    rates = {name: rate_of[id(parameter)] for name, parameter in model.named_parameters()}
    assert {rates[name] for name in rates if name.startswith("backbone.")} == {1e-4}
    assert {rates[name] for name in rates if name.startswith("head.")} == {1e-3}
    assert max(scheduler.get_last_lr()) == pytest.approx(10 * min(scheduler.get_last_lr()))


@pytest.mark.parametrize("pct_start", [0.0, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("total_steps", [1, 2, 3, 4, 5, 6, 10])
def test_one_cycle_has_a_rate_for_every_step_of_short_runs(total_steps, pct_start):
    weight = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = create_optimizer(torch.nn.ParameterList([weight]), learning_rate=1e-4, weight_decay=0)
    scheduler = create_scheduler(optimizer, total_steps, pct_start)
    rates = []
    for _ in range(total_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert all(0 < rate <= 1e-4 for rate in rates)
    assert max(rates) > 0.5e-4
