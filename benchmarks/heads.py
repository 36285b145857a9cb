"""The association head against the heads that it would replace, and at the label sets of Open Images.

`python -m benchmarks.heads`: features of Swin-L at 384x384 (12x12x1536), batch 16, training mode, float32 (bfloat16
autocast on a GPU). Forward, and forward with backward to the features and all weights.
"""

import time
from functools import partial
from statistics import median

import torch
from torch import nn

from assocformer_hf.model.association import AssociationHead
from assocformer_hf.model.losses import association_penalty_from_sums
from assocformer_hf.model.tiled import TILE_LABELS
from benchmarks.measure import DEVICE, GPU, RESULTS, peak_memory, ratio, report, seconds
from benchmarks.peers import HEADS, LiteralAssociationHead, MLDecoder

CLOCK = time.perf_counter if GPU or torch.get_num_threads() > 1 else time.process_time
CHANNELS, SIDE, BATCH = 1536, 12, 16
OPEN_IMAGES = 9605


def forward(head: nn.Module, features: torch.Tensor) -> torch.Tensor:
    with torch.autocast(DEVICE, torch.bfloat16, enabled=GPU):
        return head(features)


def train(head: nn.Module, features: torch.Tensor):
    forward(head, features).float().square().mean().backward()
    features.grad = None
    head.zero_grad()


def against(ours: partial, theirs: partial, budget: float = 2.0 if GPU else 8.0) -> tuple[float, float]:
    """Time of one call over that of ours, and its milliseconds, from as many rounds as the seconds allow."""
    trial = seconds({"ours": ours, "theirs": theirs}, 1, CLOCK)
    rounds = min(101, max(3, int(budget / 2 / (trial["ours"][0] + trial["theirs"][0]))))
    times = seconds({"ours": ours, "theirs": theirs}, rounds, CLOCK)
    return ratio(times, "theirs", "ours"), 1e3 * median(times["theirs"])


def compare_heads(labels: int = 80) -> list[dict]:
    """Each head over ours, from the feature map."""
    torch.manual_seed(0)
    features = torch.rand(BATCH, CHANNELS, SIDE, SIDE, device=DEVICE, requires_grad=True)
    ours = HEADS["AssocFormer"](CHANNELS, labels).to(DEVICE).train()
    rows = []
    for name, head_class in HEADS.items():
        head = head_class(CHANNELS, labels).to(DEVICE).train()
        assert forward(head, features).shape == (BATCH, labels), name
        with torch.no_grad():
            inference = against(partial(forward, ours, features), partial(forward, head, features))
        training = against(partial(train, ours, features), partial(train, head, features))
        rows.append(
            {
                "head": name,
                "parameters_M": sum(p.numel() for p in head.parameters()) / 1e6,
                "forward_over_ours": inference[0],
                "forward_backward_over_ours": training[0],
                "forward_ms": inference[1],
                "forward_backward_ms": training[1],
            }
        )
    return rows


def compare_with_literal_convolutions(labels: int = 80) -> list[dict]:
    """The low-rank head over the same head by the convolutions of the paper, both from the pooled feature."""
    ours, literal = AssociationHead(CHANNELS, labels).to(DEVICE), LiteralAssociationHead(CHANNELS, labels).to(DEVICE)
    literal.load_state_dict(ours.state_dict())
    features = torch.randn(BATCH, CHANNELS, device=DEVICE, requires_grad=True)
    torch.testing.assert_close(ours(features).logits, literal(features).logits, rtol=1e-3, atol=1e-3)

    def step(head: AssociationHead, backward: bool):
        scores = head(features)
        if backward:
            scores.logits.square().mean().backward()
            features.grad = None
            head.zero_grad()

    rows = []
    for backward in (False, True):
        with torch.set_grad_enabled(backward):
            over, milliseconds = against(partial(step, ours, backward), partial(step, literal, backward))
        what = "forward+backward" if backward else "forward"
        rows.append({"what": what, "literal_over_low_rank": over, "literal_ms": milliseconds})
    return rows


def tiled_step(head: AssociationHead, features: torch.Tensor, backward: bool):
    """From the pooled feature, or from a map."""
    scores = head(features.mean((2, 3)) if features.ndim == 4 else features)
    loss = scores.logits.square().mean() + 0.1 * association_penalty_from_sums(scores.association_sums)
    if backward:
        loss.backward()
        features.grad = None
        head.zero_grad()


def sigmoids(labels: int):
    """The floor: as many sigmoids as the A of a batch has entries, in tiles that stay in the cache."""
    side = min(TILE_LABELS[DEVICE], labels)
    tile = torch.randn(side, side, device=DEVICE)
    for _ in range(round(BATCH * labels**2 / side**2)):
        torch.sigmoid(tile, out=tile)


def large_label_sets(sizes: tuple[int, ...] = (80, 640, 1280, 2560, 5120, OPEN_IMAGES), rounds: int = 3) -> list[dict]:
    """Ours with the l2 norm by the number of labels, in tiles and in the compiled loop, and ML-Decoder with 100 groups.

    Ours is timed from the pooled feature; beside ML-Decoder both begin with the feature map. The floor of forward and
    backward is twice that of forward: A, which is not kept, is computed in both.
    """
    rows = []
    pooled = torch.rand(BATCH, CHANNELS, device=DEVICE, requires_grad=True)
    feature_map = torch.rand(BATCH, CHANNELS, SIDE, SIDE, device=DEVICE, requires_grad=True)
    for labels in sizes:
        head = AssociationHead(CHANNELS, labels, tiled=True).to(DEVICE)
        fused = AssociationHead(CHANNELS, labels, tiled=True, fused=True).to(DEVICE)
        decoder = MLDecoder(CHANNELS, labels).to(DEVICE).train()
        shifts = torch.rand(BATCH, 4, CHANNELS, device=DEVICE)
        readout = head.association.readout.weight.detach().flatten(1).T
        calls = {
            "sigmoids": partial(sigmoids, labels),
            "readout": partial(torch.matmul, shifts, readout),
            "forward": torch.no_grad()(partial(tiled_step, head, pooled, False)),
            "training": partial(tiled_step, head, pooled, True),
            "fused_forward": torch.no_grad()(partial(tiled_step, fused, pooled, False)),
            "fused_training": partial(tiled_step, fused, pooled, True),
            "forward_from_map": torch.no_grad()(partial(tiled_step, head, feature_map, False)),
            "training_from_map": partial(tiled_step, head, feature_map, True),
            "ml_decoder_forward": torch.no_grad()(partial(forward, decoder, feature_map)),
            "ml_decoder_training": partial(train, decoder, feature_map),
        }
        started = time.perf_counter()
        calls["fused_forward"](), calls["fused_training"]()
        first_call = time.perf_counter() - started
        times = seconds(calls, rounds, CLOCK)
        rows.append(
            {
                "labels": labels,
                "forward_s": min(times["forward"]),
                "forward_backward_s": min(times["training"]),
                "forward_over_floor": ratio(times, "forward", "sigmoids"),
                "forward_backward_over_floor": ratio(times, "training", "sigmoids") / 2,
                "fused_forward_over_floor": ratio(times, "fused_forward", "sigmoids"),
                "fused_forward_backward_over_floor": ratio(times, "fused_training", "sigmoids") / 2,
                "forward_over_ml_decoder": ratio(times, "forward_from_map", "ml_decoder_forward"),
                "forward_backward_over_ml_decoder": ratio(times, "training_from_map", "ml_decoder_training"),
                "sigmoids_s": min(times["sigmoids"]),
                "readout_s": min(times["readout"]),
                "fused_first_call_s": first_call,
                "peak_MiB": peak_memory(calls["training"]) / 2**20,
            }
        )
        # Weights and their gradients are the head's own; what is left is working memory.
        rows[-1]["peak_beyond_gradients_MiB"] = rows[-1]["peak_MiB"] - sum(p.numel() for p in head.parameters()) / 2**18
    return rows


def plot_growth(rows: list[dict]):
    """Time by the number of labels, with the two terms that it consists of."""
    from matplotlib.figure import Figure

    axes = (figure := Figure(figsize=(7, 4.5), layout="constrained")).add_subplot()
    labels = [row["labels"] for row in rows]
    for key, name, style in (
        ("forward_backward_s", "forward + backward", "o-"),
        ("forward_s", "forward", "o-"),
        ("sigmoids_s", "sigmoids of A alone: the C² term", "s--"),
        ("readout_s", "readout U S' alone: the C·d term", "s--"),
    ):
        axes.loglog(labels, [1e3 * row[key] for row in rows], style, label=name, markersize=4)
    axes.set_xticks(labels, [f"{label:,}" for label in labels], rotation=30)
    axes.minorticks_off()
    axes.set(xlabel="labels C", ylabel="milliseconds", title=f"Association head in tiles, d={CHANNELS}, batch {BATCH}")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(RESULTS / "head_growth.png", dpi=130)


def main():
    report("low_rank", compare_with_literal_convolutions(), "python -m benchmarks.heads")
    report("heads", compare_heads(), "python -m benchmarks.heads")
    rows = large_label_sets()
    report("large_label_sets", rows, "python -m benchmarks.heads")
    plot_growth(rows)


if __name__ == "__main__":
    main()
