"""A in tiles against A as a whole."""

import pytest
import torch

from assocformer_hf import AssocFormerForMultiLabel
from assocformer_hf.model.association import AssociationHead
from assocformer_hf.model.losses import association_penalty, association_penalty_from_sums
from assocformer_hf.model.tiled import TILE_LABELS
from benchmarks.measure import peak_memory

TILE = TILE_LABELS["cpu"]


def heads(labels, fusion="equal", readout="per_label", dtype=torch.float64):
    """The same head twice, with A as a whole and in tiles."""
    torch.manual_seed(0)
    whole = AssociationHead(24, labels, readout=readout, fusion=fusion, tiled=False).to(dtype)
    for parameter in whole.parameters():
        parameter.data = 0.3 * torch.randn_like(parameter)
    tiled = AssociationHead(24, labels, readout=readout, fusion=fusion, tiled=True).to(dtype)
    tiled.load_state_dict(whole.state_dict())
    return whole, tiled


def penalty(scores, norm):
    if scores.association is None:
        return association_penalty_from_sums(scores.association_sums, norm)
    return association_penalty(scores.association, norm)


@pytest.mark.parametrize("norm", ["none", "l1", "l2", "l1_l2"])
@pytest.mark.parametrize("labels", [1, 7, TILE, TILE + 1, 2 * TILE + 70])
def test_logits_norms_and_all_gradients_are_those_of_the_whole(labels, norm):
    features = torch.randn(3, 24, dtype=torch.float64)
    weights = torch.randn(3, labels, dtype=torch.float64)
    results = []
    for head in heads(labels):
        x = features.clone().requires_grad_()
        scores = head(x)
        value = penalty(scores, norm)
        ((scores.logits * weights).sum() + 0.3 * value).backward()
        results.append([scores.logits, value, x.grad, *(parameter.grad for parameter in head.parameters())])
    for whole, tiled in zip(*results, strict=True):
        scale = whole.abs().max().clamp(min=1)
        torch.testing.assert_close(tiled / scale, whole / scale, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("readout", ["per_label", "shared"])
def test_gradcheck(readout):
    _, head = heads(9, "association", readout)
    names, parameters = zip(*head.named_parameters(), strict=True)

    def outputs(features, *values):
        scores = torch.func.functional_call(head, dict(zip(names, values, strict=True)), (features,))
        return scores.logits, scores.association_sums

    features = torch.randn(2, 24, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(outputs, (features, *parameters))


def test_float32_is_close():
    whole, tiled = heads(TILE + 30, dtype=torch.float32)
    features = torch.randn(3, 24)
    torch.testing.assert_close(tiled(features).logits, whole(features).logits, rtol=1e-4, atol=1e-3)


def test_no_tensor_of_the_size_of_a_is_ever_held():
    labels, batch = 3000, 4
    _, head = heads(labels, dtype=torch.float32)
    features = torch.randn(batch, 24, requires_grad=True)

    def step():
        scores = head(features)
        (scores.logits.sum() + penalty(scores, "l2")).backward()

    assert peak_memory(step) < 0.15 * batch * labels**2 * 4


def test_a_model_chooses_by_the_number_of_labels_and_gives_a_on_request(create_model, tmp_path):
    names = {i: f"label {i}" for i in range(1100)}
    model = create_model("tiny-cvt", id2label=names)
    assert not create_model("tiny-cvt").head.association.tiled
    assert model.head.association.tiled
    images, labels = torch.rand(2, 3, 64, 64), torch.zeros(2, 1100)
    output = model(images, labels=labels)
    assert output.association is None
    whole = model(images, labels=labels, output_association=True)
    assert whole.association.shape == (2, 1100, 1100)
    torch.testing.assert_close(output.logits, whole.logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(output.loss, whole.loss, rtol=1e-5, atol=1e-5)
    sums = torch.stack([whole.association.sum((1, 2)), whole.association.square().sum((1, 2))], dim=1)
    torch.testing.assert_close(output.association_sums, sums, rtol=1e-4, atol=1e-2)
    model.save_pretrained(tmp_path)
    loaded = AssocFormerForMultiLabel.from_pretrained(tmp_path, tiled_association=False)
    assert not loaded.head.association.tiled


def test_the_nuclear_norm_says_that_it_needs_a_whole(create_model):
    with pytest.raises(ValueError, match=r'"nuclear" needs A whole, 4 x 4 values .*use l2, l1, l1_l2 or none'):
        create_model(association_norm="nuclear", tiled_association=True)
    create_model(association_norm="nuclear", tiled_association=False)
