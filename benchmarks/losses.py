"""The asymmetric loss against its published formula, at the label sets of Open Images.

`python -m benchmarks.losses`: 256 x 9,605 float32 logits, forward and backward.
"""

from functools import partial

import torch

from assocformer_hf.model.losses import asymmetric_loss
from benchmarks.measure import DEVICE, peak_memory, ratio, report, seconds


def published_formula(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Eq. 8 as it is commonly written, on probabilities with clamped logarithms."""
    probability = torch.sigmoid(logits)
    absent_probability = 1 - probability
    loss = labels * torch.log(probability.clamp(min=1e-8)) + (1 - labels) * torch.log(
        absent_probability.clamp(min=1e-8)
    )
    confidence = probability * labels + absent_probability * (1 - labels)
    gamma = 0 * labels + 2 * (1 - labels)
    return -(loss * (1 - confidence) ** gamma).mean()


def main(batch: int = 256, count: int = 9605, rounds: int = 15):
    torch.manual_seed(0)
    logits = torch.randn(batch, count, device=DEVICE, requires_grad=True)
    labels = (torch.rand(batch, count, device=DEVICE) < 0.001).float()

    def step(function):
        function(logits, labels).backward()
        logits.grad = None

    ours, theirs = asymmetric_loss(logits, labels), published_formula(logits, labels)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    calls = {"ours": partial(step, asymmetric_loss), "formula": partial(step, published_formula)}
    times = seconds(calls, rounds)
    memory = {name: peak_memory(call) for name, call in calls.items()}
    row = {
        "what": f"asymmetric loss, {batch} x {count}, forward+backward, ours over the formula",
        "time_ratio": ratio(times, "ours", "formula"),
        "memory_ratio": memory["ours"] / memory["formula"],
        "ours_ms": 1e3 * min(times["ours"]),
        "ours_peak_MiB": memory["ours"] / 2**20,
    }
    report("losses", [row], "python -m benchmarks.losses")


if __name__ == "__main__":
    main()
