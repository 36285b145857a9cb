"""Optimizer steps: accumulation, clipping, and steps that are left out."""

from copy import deepcopy

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import set_seed
from timm.utils import ModelEmaV3
from torch.utils.data import DataLoader

from assocformer_hf.training.arguments import RecipeArguments
from assocformer_hf.training.optimization import create_optimizer, create_scheduler
from assocformer_hf.training.sampling import ShuffledSampler
from assocformer_hf.training.step import SUMS, GradientGuard, Progress, TrainingError, train_one_epoch
from tests.conftest import images


def batches(count: int, size: int) -> list[dict]:
    """The same eight images in every call, cut into batches."""
    whole = {
        "pixel_values": images(count * size),
        "labels": (images(count * size)[:, 0, 0, :4] > 0.6).float(),
        "index": torch.arange(count * size),
        "readable": torch.ones(count * size, dtype=torch.bool),
    }
    return [{key: value[i * size : (i + 1) * size] for key, value in whole.items()} for i in range(count)]


class Examples(list):
    """The examples of batches, as a dataset."""

    def __init__(self, data: list[dict]):
        super().__init__({key: batch[key][i] for key in batch} for batch in data for i in range(len(batch["index"])))

    def name(self, index: int) -> str:
        return f"image {index}"


def epoch(model, data, accumulation=1, hook=None, epochs=1, at_step=None, **options):
    """Trains a copy of a model on prepared batches; returns it with its average and the last epoch's values.

    `at_step` is called with the norm of the gradient that each step of the optimizer takes.
    """
    AcceleratorState._reset_state(True)
    GradientState._reset_state()
    set_seed(0)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulation, step_scheduler_with_optimizer=False)
    model = deepcopy(model).train()
    if hook is not None:
        model.register_forward_pre_hook(hook, with_kwargs=True)
    ema, optimizer = ModelEmaV3(model, decay=0.5), create_optimizer(model, 1e-3, 1e-4)
    if at_step is not None:
        weights = list(model.parameters())
        optimizer.register_step_pre_hook(
            lambda *_: at_step(torch.cat([weight.grad.flatten() for weight in weights]).norm().item())
        )
    model, optimizer, scheduler = accelerator.prepare(model, optimizer, create_scheduler(optimizer, 20))
    size = len(data[0]["index"])
    recipe = RecipeArguments(batch_size=size, gradient_accumulation_steps=accumulation, **options)
    loader = accelerator.prepare(DataLoader(Examples(data), size))
    guard = GradientGuard(model, optimizer, accelerator, recipe)
    for number in range(epochs):
        progress = Progress(number, 0, len(data), torch.zeros(SUMS))
        values = train_one_epoch(model, ema, loader, scheduler, accelerator, recipe, progress, guard)
    return model, ema.module, values


def assert_same_weights(one, other, **tolerance):
    for (name, value), expected in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(value, expected, msg=lambda text, name=name: f"{name}: {text}", **tolerance)


def test_accumulated_batches_are_one_large_batch(create_model):
    model = create_model("tiny-swin")  # has no batch norm, which sees each small batch by itself
    large, large_average, values = epoch(model, batches(2, 4))
    small, small_average, same = epoch(model, batches(4, 2), accumulation=2)
    # Adam divides by the gradient's size, which magnifies rounding where that is next to nothing.
    assert_same_weights(small, large, rtol=1e-3, atol=1e-5)
    assert_same_weights(small_average, large_average, rtol=1e-3, atol=1e-5)
    assert same["loss"] == pytest.approx(values["loss"], rel=1e-5)


def test_the_last_window_counts_as_much_as_its_batches(create_model):
    """Three batches, two in a step: the second step has one, and takes its gradient whole."""
    model, data = create_model("tiny-swin"), batches(4, 2)
    first = {key: torch.cat([data[0][key], data[1][key]]) for key in data[0]}
    expected, average, values = epoch(model, [first, data[2]], max_grad_norm=0.5)
    small, small_average, same = epoch(model, data[:3], accumulation=2, max_grad_norm=0.5)
    assert_same_weights(small, expected, rtol=1e-3, atol=1e-5)
    assert_same_weights(small_average, average, rtol=1e-3, atol=1e-5)
    assert same["learning_rate"] == values["learning_rate"]


def test_the_learning_rate_is_that_of_the_last_step(create_model):
    model, data = create_model("tiny-swin"), batches(2, 4)
    optimizer = create_optimizer(model, 1e-3, 1e-4)
    rates = []
    scheduler = create_scheduler(optimizer, 20)
    for _ in data:
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert epoch(model, data)[2]["learning_rate"] == rates[-1]


def test_frozen_batch_norm_keeps_its_statistics(create_model):
    model = create_model("tiny-cvt")
    trained, average, _ = epoch(model, batches(2, 4), frozen_batch_norm=True)
    free, _, _ = epoch(model, batches(2, 4))
    for name, buffer in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            assert torch.equal(trained.get_buffer(name), buffer)
            assert torch.equal(average.get_buffer(name), buffer)
            assert not torch.equal(free.get_buffer(name), buffer)
    weights = "backbone.cvt.encoder.stages.0.embedding.convolution_embeddings.projection.weight"
    assert not torch.equal(trained.get_parameter(weights), model.get_parameter(weights))


def test_mixtures_and_smoothed_labels_are_trained_on(create_model):
    model, data = create_model("tiny-swin"), batches(2, 4)
    data[0]["labels"][0, 0] = -1
    plain, _, values = epoch(model, data)
    mixed, _, others = epoch(model, data, mixup=0.4, cutmix=1.0, label_smoothing=0.1)
    assert others["skipped_steps"] == 0
    assert 0 < others["asl"] != values["asl"]
    again, _, _ = epoch(model, data, mixup=0.4, cutmix=1.0, label_smoothing=0.1)
    assert_same_weights(again, mixed, rtol=0, atol=0)


def test_steps_in_a_row_are_counted_across_epochs(create_model):
    data = batches(2, 4)

    def poison(_module, args, kwargs):
        return (args[0] * torch.nan, *args[1:]), kwargs

    epoch(create_model(), data, hook=poison, epochs=2, max_skipped_steps=4)
    with pytest.raises(TrainingError, match="as in the 4 steps before .*images image 0, image 1"):
        epoch(create_model(), data, hook=poison, epochs=3, max_skipped_steps=4)


def test_a_step_with_gradients_that_are_not_finite_leaves_no_trace(create_model):
    """Not in the weights, the batch norms or the averages: as if the batch had not been there."""
    data, calls = batches(4, 2), []

    def poison(_module, args, kwargs):
        calls.append(1)
        return ((args[0] * torch.nan,) if len(calls) == 4 else args), kwargs

    model = create_model("tiny-cvt")
    trained, average, values = epoch(model, data, hook=poison)
    expected, expected_average, others = epoch(model, data[:3])
    assert values["skipped_steps"] == 1
    assert others["skipped_steps"] == 0
    assert_same_weights(trained, expected, rtol=0, atol=0)
    assert_same_weights(average, expected_average, rtol=0, atol=0)
    assert values["loss"] == others["loss"]  # the mean over the batches that count
    assert values["learning_rate"] == others["learning_rate"]


def test_the_norm_of_a_step_s_whole_gradient_is_the_limit(create_model):
    """Of all weights together, and of the batches of a step together."""
    model, data, norms = create_model("tiny-swin"), batches(2, 4), {}
    for limit in (None, 0.01, 1e6):
        norms[limit] = []
        epoch(model, data, accumulation=2, at_step=norms[limit].append, max_grad_norm=limit)
    (free,) = norms[None]
    assert free > 0.02
    assert norms[0.01] == [pytest.approx(0.01, rel=1e-3)]
    assert norms[1e6] == [free]


def test_the_order_of_an_epoch_can_be_entered_anywhere():
    sampler = ShuffledSampler(101, seed=5)
    orders = []
    for number in (0, 1, 0):
        sampler.set_epoch(number)
        orders.append(list(sampler))
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(101))
    sampler.start = 40
    assert list(sampler) == orders[0][40:]
    assert len(sampler) == 61
    assert list(ShuffledSampler(101, seed=6)) != orders[0]
