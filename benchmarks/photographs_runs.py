"""The arms of `benchmarks.photographs`, how their settings are searched, and their results as lines of files."""

import itertools
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from assocformer_hf.interpretation.association_map import conditional_cooccurrence, cooccurrence_correlation
from benchmarks.measure import DEVICE, GPU, environment
from benchmarks.peers import label_graph
from benchmarks.photographs_features import Split
from benchmarks.photographs_heads import AM, MLP, InBfloat16, Linear, MeanMax, Peer
from benchmarks.photographs_training import Schedule, logistic_regression, mean_ap, predict, train

LARGE = ("Query2Label", "C-Tran")  # heads whose runs take long: 3 seeds in place of 5
TUNING_SEED = 100
RATES = tuple(1e-3 * 2.0**power for power in range(-8, 9))
DECAYS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
L2 = (3e-4, 1e-3, 3e-3, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
LAMBDAS = (0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
TEMPERATURES = (0.5, 1.0, 2.0, 4.0, 8.0)
FOLDS, BLOCK = 5, 10  # of `shuffled_labels`
HEADS = {"linear": Linear, "mlp": MLP, "am": AM, "mean_max": MeanMax, "ml_gcn": Peer, "peer": Peer}  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """A head whose mAP is wanted.

    Attributes:
        name: of its files of results.
        title: what the tables call it.
        head: a key of `HEADS`, or `"logistic"`: the linear layer at its optimum.
        options: of the head.
        start: where the search begins: values of `AXES` by axis; all combinations are tried.
        batched: whether settings are trained side by side.
        bfloat16: whether a CPU computes products so, in training and after it, for a head too large for float32.
        shuffled: whether to train on `shuffled_labels`.
        seeds: runs of the chosen setting.
        rounds: of the search, after its start, at most; None goes on until all neighbours of the best were tried.
        quick: whether `--quick` has it.
        cost_of: the arm whose costs it has, where they are those of another.
        reference: the arm without A that it is compared with.
    """

    name: str
    title: str
    head: str
    options: dict = field(default_factory=dict)
    start: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    batched: bool = True
    bfloat16: bool = False
    shuffled: bool = False
    seeds: int = 5
    rounds: int | None = None
    quick: bool = True
    cost_of: str | None = None
    reference: str = "linear"


def _arms() -> tuple[Arm, ...]:
    fit = {"rate": (4e-3,), "decay": (3.0,)}
    attended = {"rate": (4e-3,), "decay": (3.0,), "lam": (0.5, 2.0), "temperature": (1.0,)}
    inside = attended | {"lam": (2.0,)}
    # Weight decays up to 0.3 do nearly the same here: a search that begins there alone stays.
    peer = {"rate": (5e-4,), "decay": (0.3, 3.0)}
    c_squared = 0.1 / 24**2
    narrow = [
        Arm(f"{name}-{size}", f"{peer_name}, narrowed to {size}", "peer", {"peer": peer_name, "size": size}, peer,
            batched=False, seeds=3 if peer_name in LARGE else 5)
        for name, peer_name, size in (("ml-decoder", "ML-Decoder", 256), ("query2label", "Query2Label", 256),
                                      ("add-gcn", "ADD-GCN", 256), ("c-tran", "C-Tran", 256))
    ]  # fmt: skip
    # The largest want a lower rate, and with it a higher decay.
    huge = {"rate": (6.25e-5,), "decay": (0.3, 100.0)}
    full = [
        Arm(name, peer_name, "peer", {"peer": peer_name}, huge if large else peer, batched=False, bfloat16=large,
            seeds=3 if large else 5, quick=False)
        for name, peer_name in (("ml-decoder", "ML-Decoder"), ("query2label", "Query2Label"), ("add-gcn", "ADD-GCN"),
                                ("c-tran", "C-Tran"))
        for large in [peer_name in LARGE]
    ]  # fmt: skip
    return (
        Arm("logistic", "linear at its optimum", "logistic", start={"l2": (0.01, 0.03, 0.1)}, cost_of="linear"),
        Arm("linear", "linear", "linear", start=fit),
        Arm("am", "AM, no norm", "am", start=fit),
        Arm("attention", "linear with attention", "am", {"fusion": "linear"}, attended),
        Arm("am-attention", "AM with attention, no norm", "am", {}, inside, reference="attention"),
        Arm(
            "half-attention",
            "AM with attention, A frozen at ½",
            "am",
            {"association": "half"},
            inside,
            cost_of="am-attention",
            reference="attention",
        ),
        Arm("mlp", "MLP, 512 hidden", "mlp", start={"rate": (1e-3,), "decay": (3.0,)}),
        Arm("am-theta-c2", "AM, θ=0.1 / C²", "am", {"theta": c_squared}, fit, cost_of="am"),
        Arm("am-theta", "AM, θ=0.1", "am", {"theta": 0.1}, fit, cost_of="am"),
        Arm("am-half", "AM, A frozen at ½", "am", {"association": "half"}, fit, cost_of="am"),
        Arm("am-static", "AM, A the same for all images", "am", {"association": "static"}, fit, cost_of="am"),
        Arm("linear-shuffled", "linear, labels shuffled", "linear", start=fit, shuffled=True, cost_of="linear"),
        Arm(
            "am-shuffled",
            "AM, labels shuffled",
            "am",
            start=fit,
            shuffled=True,
            cost_of="am",
            reference="linear-shuffled",
        ),
        *(Arm(f"am-k{k}", f"AM, no norm, k={k}", "am", {"kernel_size": k}, fit) for k in (1, 5, 7)),
        Arm("mlp-64", "linear + MLP, 64 hidden", "mlp", {"hidden": 64, "residual": True}, fit),
        Arm(
            "mlp-64-attention",
            "linear + MLP, 64 hidden, with attention",
            "am",
            {"fusion": "linear", "hidden": 64},
            attended,
        ),
        Arm("mean-max", "linear on mean and maximum", "mean_max", start=fit),
        Arm("ml-gcn", "ML-GCN", "ml_gcn", {"peer": "ML-GCN"}, {"rate": (1e-3,), "decay": (0.1, 3.0)}),
        *narrow,
        *full,
    )


ARMS = _arms()
AXES = {"rate": RATES, "decay": DECAYS, "lam": LAMBDAS, "temperature": TEMPERATURES, "l2": L2}


@dataclass(frozen=True)
class Scale:
    """How many photographs, and how long the runs are; the same for all heads.

    Attributes:
        size: training photographs, drawn anew from the training split for every seed.
        epochs: passes over them.
        batch: photographs in a step.
        looks: at validation in a run, evenly over its second half; the best counts.
        rounds: of the search, after its start, at most; None leaves it to the arm.
        seeds: runs of a chosen setting at most; None leaves it to the arm.
    """

    size: int
    epochs: int
    batch: int = 64
    looks: int = 2
    rounds: int | None = None
    seeds: int | None = None


SCALES = (Scale(1000, 12, batch=32), Scale(5000, 8), Scale(15000, 6, looks=4))
QUICK = Scale(200, 2, rounds=0, seeds=2)


class Results:
    """The finished runs of an arm at a scale: the lines of its file, those of other settings aside.

    Attributes:
        runs: the records by setting and seed, a setting being the values of the arm's axes in their order.
    """

    def __init__(self, arm: Arm, scale: Scale, folder: Path):
        self.arm, self.scale = arm, scale
        self.path = folder / f"{arm.name}-{scale.size}.jsonl"
        described = {"head": arm.head, "options": arm.options, "shuffled": arm.shuffled}
        described |= {"epochs": scale.epochs, "batch": scale.batch, "looks": scale.looks}
        self.settings = json.loads(json.dumps(described))
        self.seeds = range(arm.seeds if scale.seeds is None else min(arm.seeds, scale.seeds))
        self.runs: dict[tuple[tuple[float, ...], int], dict] = {}
        for line in self.path.read_text().splitlines() if self.path.exists() else []:
            record = json.loads(line)
            if record["settings"] == self.settings:
                self.runs[tuple(record["point"].values()), record["seed"]] = record

    def add(self, record: dict):
        """Writes a finished run down, with what it ran on."""
        record = {"settings": self.settings} | record | {"environment": environment()}
        self.runs[tuple(record["point"].values()), record["seed"]] = record
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    @property
    def sweep(self) -> dict[tuple[float, ...], float]:
        """mAP on validation of the tuning seed by setting."""
        return {point: run["validation"] for (point, seed), run in self.runs.items() if seed == TUNING_SEED}

    @property
    def best(self) -> tuple[float, ...]:
        """The setting with the highest mAP on validation."""
        return max(self.sweep, key=self.sweep.get)

    @property
    def at_edge(self) -> list[str]:
        """The axes along which a neighbour of the best setting was not tried though there is one."""
        return [
            axis
            for place, axis in enumerate(self.arm.start)
            if any(point not in self.sweep for point in self._neighbours(self.best, place))
        ]

    def next_round(self) -> tuple[int, list[tuple[float, ...]]] | None:
        """The number of the round of the search to go on with, 0 for the start, and the settings that it lacks.

        A round tries the untried neighbours of the setting that was the best before it; None once the search is done.
        """
        start = list(itertools.product(*self.arm.start.values()))
        if missing := [point for point in start if point not in self.sweep]:
            return 0, missing
        rounds = {point: self.runs[point, TUNING_SEED]["round"] for point in self.sweep}
        limits = [limit for limit in (self.arm.rounds, self.scale.rounds) if limit is not None]
        for number in range(1, min([max(rounds.values()) + 1, *limits]) + 1):
            best = max((point for point in rounds if rounds[point] < number), key=self.sweep.get)
            around = [self._neighbours(best, place) for place in range(len(self.arm.start))]
            if missing := [point for points in around for point in points if point not in self.sweep]:
                return number, missing
        return None

    def _neighbours(self, point: tuple[float, ...], place: int) -> list[tuple[float, ...]]:
        values = AXES[list(self.arm.start)[place]]
        here = min(range(len(values)), key=lambda i: abs(values[i] - point[place]))
        there = [values[i] for i in (here - 1, here + 1) if 0 <= i < len(values)]
        return [(*point[:place], value, *point[place + 1 :]) for value in there]

    @property
    def finished(self) -> list[dict] | None:
        """The runs of the chosen setting by seed; None while one is missing, or the search goes on."""
        if self.next_round() is not None:
            return None
        runs = [self.runs.get((self.best, seed)) for seed in self.seeds]
        return None if None in runs else runs


def run_arm(arm: Arm, scale: Scale, splits: Mapping[str, Split], folder: Path) -> str:
    """Searches and trains an arm at a scale, as far as that is left to do, and says what came of it."""
    results = Results(arm, scale, folder)
    while step := results.next_round():
        number, points = step
        for together in [points] if arm.batched else [[point] for point in points]:
            for record in run(arm, scale, splits, together, TUNING_SEED):
                results.add(record | {"round": number})
    for seed in results.seeds:
        if (results.best, seed) not in results.runs:
            results.add(run(arm, scale, splits, [results.best], seed)[0] | {"round": None})
    found, seconds = results.finished, sum(run["seconds"] for run in results.runs.values())
    setting = ", ".join(f"{axis} {value:g}" for axis, value in zip(arm.start, results.best, strict=True))
    edge = f", at the edge of {' and '.join(results.at_edge)}" if results.at_edge else ""
    return (
        f"{arm.name}-{scale.size}: validation {np.mean([run['validation'] for run in found]):.2f} at {setting}{edge}; "
        f"{len(results.runs)} runs, {seconds:.0f} s"
    )


def run(arm: Arm, scale: Scale, splits: Mapping[str, Split], points: list[tuple[float, ...]], seed: int) -> list[dict]:
    """Trains a head with each of the settings; those of the tuning seed never see the test split.

    Returns:
        A record for each setting: mAP in percent, what the arm's A is like, and its share of the seconds.
    """
    started = time.perf_counter()
    training, validation, test = splits["train"], splits["validation"], splits["test"]
    photographs = torch.randperm(len(training.labels), generator=torch.Generator().manual_seed(seed))[: scale.size]
    if arm.shuffled:
        training = training._replace(labels=shuffled_labels(training, photographs, seed))
    settings = [dict(zip(arm.start, point, strict=True)) for point in points]
    if arm.head == "logistic":
        penalties = [setting["l2"] for setting in settings]
        made, curves = zip(*logistic_regression(training, photographs, validation, penalties), strict=True)
    else:
        known = training.labels[photographs]
        made = [create_head(arm, training.maps.shape[2], known, setting, seed).to(DEVICE) for setting in settings]
        if arm.bfloat16 and not GPU:
            made = [InBfloat16(head) for head in made]
        rates, decays = [s["rate"] for s in settings], [s["decay"] for s in settings]
        torch.manual_seed(seed)
        schedule = Schedule(scale.epochs, scale.looks, scale.batch)
        curves = train(made, rates, decays, training, photographs, validation, schedule, seed, arm.batched)
    records = [
        {"point": setting, "seed": seed, "validation": max(curve), "curve": curve}
        for setting, curve in zip(settings, curves, strict=True)
    ]
    if seed != TUNING_SEED:
        for record, head in zip(records, made, strict=True):
            record["test"] = mean_ap(predict([head], test, False)[0], test)
            if isinstance(head, AM) and head.head.fusion != "linear":
                record |= describe_association(head.cpu(), splits, photographs)
    seconds = (time.perf_counter() - started) / len(records)
    return [record | {"seconds": round(seconds, 2)} for record in records]


def create_head(arm: Arm, channels: int, targets: Tensor, setting: Mapping[str, float], seed: int) -> nn.Module:
    """A head of the arm with the weights of the seed, for the labels of the targets `(photographs, labels)`."""
    torch.manual_seed(seed)
    own = {axis: value for axis, value in setting.items() if axis not in ("rate", "decay")}
    if arm.head == "ml_gcn":
        own["adjacency"] = label_graph(targets)
    return HEADS[arm.head](channels, targets.shape[1], **arm.options, **own)


def describe_association(head: AM, splits: Mapping[str, Split], photographs: Tensor) -> dict:
    """What A is like on validation, and the mAP on test with A replaced by its mean over the training photographs.

    Returns:
        `association`: standard deviation over all entries and photographs (`std`), of the mean A over its pairs
        (`pair_std`), over the photographs, mean over the pairs (`image_std`), and Spearman's correlation of the mean
        A with how often labels go together in training, with its 95% interval (`spearman`), None where A is flat;
        `test_static`: the mAP.
    """
    training, validation, test = splits["train"], splits["validation"], splits["test"]
    pairs = np.triu_indices(validation.labels.shape[1], 1)
    with torch.no_grad():
        a = head.head(validation.pooled, whole=True).association
        mean = head.head(training.pooled[photographs[:5000]], whole=True).association.mean(0)
        logits = predict([_Static(head, mean)], test, False)[0]
    off_diagonal = a[:, pairs[0], pairs[1]]
    counts = (training.labels.T @ training.labels).numpy()
    rank = cooccurrence_correlation(mean.numpy(), conditional_cooccurrence(counts))
    described = {
        "std": float(a.std()),
        "pair_std": float(mean[pairs].std()),
        "image_std": float(off_diagonal.std(0).mean()),
        "spearman": [None if np.isnan(value) else value for value in rank],
    }
    return {"association": described, "test_static": mean_ap(logits, test)}


class _Static(nn.Module):
    """AM with the same A for all images."""

    def __init__(self, head: AM, association: Tensor):
        super().__init__()
        self.head, self.association, self.on_maps = head, association, head.on_maps

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.head.with_association(features, self.association), features.new_zeros(())


def shuffled_labels(training: Split, photographs: Tensor, seed: int) -> Tensor:
    """Labels that no longer go together beyond what the photograph says, each as frequent as before.

    Each label is scored by a multi-layer perceptron that was trained on other photographs (5 folds). Among 10
    photographs that follow each other in the order of that score the label is handed on by chance, for every label
    anew. What the perceptron does not see of a label is lost, so that a head learns less from the shuffled ones.
    """
    generator = torch.Generator().manual_seed(seed)
    scores = torch.zeros(len(photographs), training.labels.shape[1])
    folds = torch.arange(len(photographs)) % FOLDS
    for fold in range(FOLDS):
        torch.manual_seed(seed)
        head, held_out = MLP(training.pooled.shape[1], scores.shape[1]), photographs[folds == fold]
        others = Split(training.maps, training.pooled[held_out], training.labels[held_out])
        train([head], [4e-4], [0.3], training, photographs[folds != fold], others, Schedule(8), seed, False)
        scores[folds == fold] = torch.from_numpy(predict([head], others, False)[0])
    labels = training.labels.clone()
    for label, order in enumerate(scores.argsort(0).T):
        mixed = [block[torch.randperm(len(block), generator=generator)] for block in order.split(BLOCK)]
        labels[photographs[order], label] = training.labels[photographs[torch.cat(mixed)], label]
    return labels
