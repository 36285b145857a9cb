"""The losses against their definitions."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assocformer_hf.model.losses import association_penalty, asymmetric_loss


def equation_8(logits, labels, gamma_pos, gamma_neg, clip=0.0):
    """Written out label by label in float64, for known labels."""
    total = 0.0
    for row, row_labels in zip(logits.double(), labels, strict=True):
        image = 0.0
        for logit, label in zip(row, row_labels, strict=True):
            p = torch.sigmoid(logit)
            if label == 1:
                image = image - (1 - p) ** gamma_pos * torch.log(p)
            else:
                p = (p - clip).clamp(min=0)
                image = image - p**gamma_neg * torch.log(1 - p)
        total = total + image / len(row)
    return total / len(logits)


@settings(max_examples=60, deadline=None)
@given(
    gamma_pos=st.sampled_from([0, 0.5, 1, 2]),
    gamma_neg=st.sampled_from([0, 0.5, 1, 2, 4]),
    clip=st.sampled_from([0.0, 0.05, 0.3]),
    seed=st.integers(0, 2**31),
)
def test_asymmetric_loss_is_equation_8(gamma_pos, gamma_neg, clip, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = (4 * torch.randn(3, 5, generator=generator, dtype=torch.float64)).requires_grad_()
    labels = torch.randint(0, 2, (3, 5), generator=generator)
    ours = asymmetric_loss(logits, labels, gamma_pos, gamma_neg, clip)
    reference = equation_8(logits, labels, gamma_pos, gamma_neg, clip)
    torch.testing.assert_close(ours, reference, rtol=1e-10, atol=1e-12)
    if not clip or gamma_neg >= 1:  # below, the derivative at the margin is infinite
        mine, theirs = torch.autograd.grad(ours, logits), torch.autograd.grad(reference, logits)
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize(("gamma_pos", "gamma_neg", "clip"), [(0, 2, 0), (1, 4, 0.05), (0.5, 0.5, 0), (0, 0, 0)])
def test_loss_and_gradient_are_finite_up_to_the_largest_logits(dtype, gamma_pos, gamma_neg, clip):
    largest = torch.finfo(dtype).max
    values = [0.0, 1e-7, 15, 17, 30, 89, 104, 1e4, largest / 2, largest]
    logits = torch.tensor([[sign * value for value in values for sign in (1, -1)] for _ in range(7)], dtype=dtype)
    for present in (0, 1):
        logits = logits.detach().requires_grad_()
        loss = asymmetric_loss(logits, torch.full(logits.shape, present), gamma_pos, gamma_neg, clip)
        loss.backward()
        assert loss.isfinite()
        assert loss >= 0
        assert logits.grad.isfinite().all()


def test_unknown_labels_change_neither_loss_nor_gradient():
    logits = torch.randn(4, 6, dtype=torch.float64)
    labels = torch.randint(0, 2, (4, 6))
    with_unknown = torch.cat([logits, torch.randn(4, 3, dtype=torch.float64)], dim=1).requires_grad_()
    unknown = torch.cat([labels, torch.full((4, 3), -1)], dim=1)
    loss = asymmetric_loss(with_unknown, unknown)
    torch.testing.assert_close(loss, asymmetric_loss(logits, labels))
    loss.backward()
    assert (with_unknown.grad[:, 6:] == 0).all()
    assert (with_unknown.grad[:, :6] != 0).all()


def test_an_image_without_known_labels_counts_as_zero():
    logits, labels = torch.randn(2, 3), torch.tensor([[1, 0, 1], [-1, -1, -1]])
    torch.testing.assert_close(asymmetric_loss(logits, labels), asymmetric_loss(logits[:1], labels[:1]) / 2)


def test_labels_of_the_wrong_width_are_named():
    with pytest.raises(ValueError, match=r"\(2, 4\).*got \(2, 3\)"):
        asymmetric_loss(torch.zeros(2, 4), torch.zeros(2, 3))


@settings(max_examples=30, deadline=None)
@given(labels=st.integers(1, 12), rank=st.integers(1, 4), seed=st.integers(0, 2**31))
def test_norms_are_those_of_torch_linalg(labels, rank, seed):
    keys = torch.randn(3, labels, rank, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    association = torch.sigmoid(keys @ keys.mT).requires_grad_()
    frobenius = torch.linalg.matrix_norm(association, "fro").mean()
    absolute = torch.linalg.vector_norm(association, 1, dim=(-2, -1)).mean()
    references = {
        "l2": frobenius,
        "l1": absolute,
        "l1_l2": frobenius + absolute,
        "nuclear": torch.linalg.matrix_norm(association, "nuc").mean(),
    }
    for norm, reference in references.items():
        ours = association_penalty(association, norm)
        torch.testing.assert_close(ours, reference, rtol=1e-10, atol=1e-10)
        assert torch.autograd.grad(ours, association, retain_graph=True)[0].isfinite().all()
    assert association_penalty(association, "none") == 0


@settings(max_examples=40, deadline=None)
@given(
    gamma_pos=st.sampled_from([0, 0.5, 1]),
    gamma_neg=st.sampled_from([0, 1, 2, 4]),
    clip=st.sampled_from([0.0, 0.05]),
    seed=st.integers(0, 2**31),
)
def test_a_soft_label_mixes_the_losses_of_present_and_absent(gamma_pos, gamma_neg, clip, seed):
    """Linear in the labels: what mixup of two images, label smoothing and distillation need."""
    generator = torch.Generator().manual_seed(seed)
    logits = (4 * torch.randn(3, 5, generator=generator, dtype=torch.float64)).requires_grad_()
    first, second = torch.randint(0, 2, (2, 3, 5), generator=generator)
    unknown = torch.rand(3, 5, generator=generator) < 0.2
    share = torch.rand((), generator=generator).item()

    def loss(labels):
        return asymmetric_loss(logits, labels.masked_fill(unknown, -1), gamma_pos, gamma_neg, clip)

    mixed, expected = loss(share * first + (1 - share) * second), share * loss(first) + (1 - share) * loss(second)
    torch.testing.assert_close(mixed.double(), expected, rtol=1e-6, atol=1e-8)
    mine, theirs = torch.autograd.grad(mixed, logits), torch.autograd.grad(expected, logits)
    torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-8)
    soft = torch.rand(3, 5, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: asymmetric_loss(x, soft, gamma_pos, gamma_neg), logits)


@pytest.mark.parametrize("value", [float("nan"), 2.0, -0.5, float("inf"), 1.0001])
def test_a_label_that_is_none_is_an_error_that_names_it(value):
    labels = torch.tensor([[0.0, 1.0, -1.0], [0.5, value, 0.0]])
    with pytest.raises(ValueError, match=rf"or -1 \(unknown\); label 1 of image 1 of the batch is {value:g}$"):
        asymmetric_loss(torch.zeros(2, 3), labels)


def test_where_labels_are_not_looked_at_the_loss_is_nan():
    """As on a GPU, where a look would hold up every step."""
    logits = torch.zeros(2, 3, requires_grad=True)
    compiled = torch.compile(asymmetric_loss, fullgraph=True, backend="aot_eager")
    loss = compiled(logits, torch.tensor([[0.0, 1.0, -1.0], [0.5, 2.0, 0.0]]))
    loss.backward()
    assert loss.isnan()
    assert logits.grad[0].isfinite().all()
    assert logits.grad[1, 1].isnan()
    assert compiled(logits, torch.tensor([[0.0, 1.0, -1.0], [0.5, 1.0, 0.0]])).isfinite()


@pytest.mark.parametrize("norm", ["l1", "l2", "nuclear"])
def test_the_norm_of_a_with_a_nan_is_nan(norm):
    """Nothing crashes: the training notices and leaves the step out."""
    association = torch.rand(3, 4, 4)
    association = (association + association.mT).requires_grad_()
    poisoned = torch.cat([association[:2], association[2:] * torch.nan])
    penalty = association_penalty(poisoned, norm)
    penalty.backward()
    assert penalty.isnan()


@pytest.mark.parametrize("clip", [1e-9, 1e-8, 3e-8])
def test_a_margin_that_is_lost_in_rounding_leaves_the_loss_finite(clip):
    logits = torch.tensor([[20.0, 200.0, -20.0]], requires_grad=True)
    for present in (0.0, 1.0):
        loss = asymmetric_loss(logits, torch.full((1, 3), present), clip=clip)
        loss.backward()
        assert loss.isfinite()
        assert logits.grad.isfinite().all()
