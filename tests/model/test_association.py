"""The head against the paper's equations, written as the literal convolutions."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from assocformer_hf.model.association import AssociationHead, AssociationModule


def literal_module(module: AssociationModule, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Eq. 4 to 6 as printed: run the convolutions, multiply K by its transpose, A by M, and read out."""
    rows = features.unsqueeze(1)
    keys, messages = nn.Conv1d.forward(module.key, rows), nn.Conv1d.forward(module.message, rows)
    association = torch.sigmoid(keys @ keys.mT)
    gathered = association @ messages
    if module.readout.in_channels == 1:
        weight, bias = module.readout.weight, module.readout.bias
        return association, nn.functional.conv1d(gathered.flatten(0, 1).unsqueeze(1), weight, bias).view(
            len(features), -1
        )
    return association, nn.Conv1d.forward(module.readout, gathered).squeeze(-1)


def randomise(module: nn.Module, seed: int):
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) * 0.1


def outputs_and_gradients(function, module, features, weights):
    features = features.clone().requires_grad_()
    module.zero_grad()
    association, logits = function(features)
    (association * weights[0]).sum().add((logits * weights[1]).sum()).backward()
    return [association, logits, features.grad, *(parameter.grad.clone() for parameter in module.parameters())]


@settings(max_examples=60, deadline=None)
@given(
    labels=st.integers(1, 12),
    size=st.integers(1, 40),
    kernel=st.sampled_from([1, 3, 5, 7]),
    readout=st.sampled_from(["per_label", "shared"]),
    double=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_low_rank_form_equals_the_literal_convolutions(labels, size, kernel, readout, double, seed):
    dtype = torch.float64 if double else torch.float32
    module = AssociationModule(size, labels, kernel, readout).to(dtype)
    randomise(module, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    features = torch.randn(3, size, generator=generator, dtype=dtype)
    weights = (
        torch.randn(3, labels, labels, generator=generator, dtype=dtype),
        torch.randn(3, labels, generator=generator, dtype=dtype),
    )
    ours = outputs_and_gradients(lambda x: module(x)[::2], module, features, weights)
    literal = outputs_and_gradients(lambda x: literal_module(module, x), module, features, weights)
    for mine, reference in zip(ours, literal, strict=True):
        if double:
            torch.testing.assert_close(mine, reference, rtol=1e-10, atol=1e-10)
        else:
            scale = reference.abs().max().clamp(min=1e-2)  # below, terms of order one cancel
            assert (mine - reference).abs().max() <= 1e-4 * scale


@pytest.mark.parametrize("fusion", ["equal", "association", "learnable", "linear"])
@pytest.mark.parametrize("readout", ["per_label", "shared"])
def test_gradcheck(fusion, readout):
    head = AssociationHead(7, 5, 3, readout, fusion).double()
    randomise(head, 0)
    features = torch.randn(2, 7, dtype=torch.float64, requires_grad=True)
    names, parameters = zip(*head.named_parameters(), strict=True)

    def outputs(features, *values):
        scores = torch.func.functional_call(head, dict(zip(names, values, strict=True)), (features,))
        return tuple(part for part in scores if part is not None)

    assert torch.autograd.gradcheck(outputs, (features, *parameters))


@pytest.mark.parametrize(
    ("fusion", "alpha", "beta"), [("equal", 0.5, 0.5), ("association", 1, 0), ("learnable", 3, 1), ("linear", 0, 1)]
)
def test_fusion_is_equation_7(fusion, alpha, beta):
    head = AssociationHead(16, 4, fusion=fusion)
    if fusion == "learnable":
        head.alpha.weight.data.fill_(3)
    scores = head(torch.randn(2, 16))
    first = 0 if scores.association_logits is None else alpha * scores.association_logits
    second = 0 if scores.embedding_logits is None else beta * scores.embedding_logits
    torch.testing.assert_close(scores.logits, first + second)
    assert (scores.association_logits is None) == (alpha == 0)
    assert (scores.embedding_logits is None) == (beta == 0)


@settings(max_examples=40, deadline=None)
@given(labels=st.integers(2, 20), size=st.integers(4, 64), kernel=st.sampled_from([1, 3, 5]), seed=st.integers(0, 999))
def test_association_is_symmetric_with_a_diagonal_of_at_least_one_half_and_low_rank_logits(labels, size, kernel, seed):
    module = AssociationModule(size, labels, kernel).double()
    randomise(module, seed)
    association, _, _ = module(torch.randn(2, size, dtype=torch.float64))
    torch.testing.assert_close(association, association.mT)
    assert (association.diagonal(dim1=1, dim2=2) >= 0.5).all()
    logits = torch.logit(association)
    assert torch.linalg.matrix_rank(logits, rtol=1e-8).max() <= kernel + 1
    assert torch.linalg.eigvalsh(logits).min() > -1e-8


@pytest.mark.parametrize("readout", ["per_label", "shared"])
def test_contributions_sum_to_the_association_logits(readout):
    head = AssociationHead(24, 6, readout=readout).double()
    randomise(head, 3)
    features = torch.randn(5, 24, dtype=torch.float64)
    contributions, scores = head.explain(features)[1] / head.fusion_weights[0], head(features)
    torch.testing.assert_close(
        contributions.sum(-1) + head.association.readout.bias, scores.association_logits, rtol=1e-10, atol=1e-10
    )


def test_head_computes_in_float32_under_autocast_and_with_half_precision_weights():
    head = AssociationHead(512, 5)
    features = torch.randn(3, 512) * 300  # the squared norm is far beyond float16
    expected = head(features).logits
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(head(features).logits, expected)
    half = AssociationHead(512, 5)
    half.load_state_dict(head.state_dict())
    scores = half.half()(features.half())
    assert scores.logits.dtype == torch.float32
    assert scores.logits.isfinite().all()


def test_head_has_the_parameters_of_about_two_linear_layers():
    count = sum(parameter.numel() for parameter in AssociationHead(1536, 80).parameters())
    assert count == 80 * (1536 + 1) * 2 + 2 * 80 * (3 + 1)
