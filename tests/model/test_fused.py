"""A in one compiled loop against A as a whole and in tiles."""

import shutil

import pytest
import torch
from torch._inductor import config as inductor

from assocformer_hf.model.association import AssociationHead
from assocformer_hf.model.fused import fused_association
from assocformer_hf.model.losses import association_penalty_from_sums, association_sums
from assocformer_hf.model.tiled import tiled_association
from benchmarks.measure import peak_memory

LABELS = 150
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")


def results(head: AssociationHead, features: torch.Tensor) -> list[torch.Tensor]:
    features = features.clone().requires_grad_()
    scores = head(features)
    sums = association_sums(scores.association) if scores.association_sums is None else scores.association_sums
    (scores.logits.square().mean() + 0.1 * association_penalty_from_sums(sums, "l1_l2")).backward()
    return [scores.logits, sums, features.grad, *(parameter.grad for parameter in head.parameters())]


@needs_compiler
def test_logits_norms_and_all_gradients_are_those_of_the_whole_without_a_tensor_of_its_size():
    torch.manual_seed(0)
    whole = AssociationHead(24, LABELS, tiled=False).double()
    for parameter in whole.parameters():
        parameter.data = 0.3 * torch.randn_like(parameter)
    fused = AssociationHead(24, LABELS, tiled=True, fused=True).double()
    fused.load_state_dict(whole.state_dict())
    features = torch.randn(3, 24, dtype=torch.float64)
    for mine, reference in zip(results(fused, features), results(whole, features), strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-10, atol=1e-10)
    other = torch.randn(5, 24, dtype=torch.float64)  # of another batch: nothing is compiled anew
    torch.testing.assert_close(fused(other).logits, whole(other).logits, rtol=1e-10, atol=1e-10)
    keys, values = torch.randn(2, LABELS, 4, dtype=torch.float64)
    gram = torch.eye(4, dtype=torch.float64).expand(2, 4, 4)
    assert peak_memory(lambda: fused_association(keys, gram, values)) < 0.5 * 2 * LABELS**2 * 8


@needs_compiler
def test_where_compiling_fails_the_tiles_do_the_work(caplog):
    keys, values = torch.randn(2, 61, 4)
    gram = torch.eye(4).expand(2, 4, 4)
    with inductor.patch({"cpp.cxx": (shutil.which("false"),), "force_disable_caches": True}):
        failed = fused_association(keys, gram, values)
    assert "torch.compile failed" in caplog.text
    for mine, reference in zip(failed, tiled_association(keys, gram, values), strict=True):
        torch.testing.assert_close(mine, reference)
