"""The arms of `benchmarks.ablations`, how they are run, and their results as lines of files."""

import io
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image
from scipy.special import logit
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from assocformer_hf import AssocFormerConfig, AssocFormerForMultiLabel
from assocformer_hf.data.scenes.scenes import NOISE, label_set_distribution, load_scenes
from assocformer_hf.evaluation.evaluator import Evaluation, evaluate
from assocformer_hf.evaluation.metrics import average_precision
from assocformer_hf.model.association import AssociationModule, AssociationScores
from assocformer_hf.model.presets import BACKBONE_PRESETS
from assocformer_hf.model.whole import shifted
from assocformer_hf.training.arguments import RecipeArguments
from assocformer_hf.training.optimization import create_optimizer, create_scheduler
from assocformer_hf.training.step import SUMS, GradientGuard, Progress, train_one_epoch

LABELS = 20
IMAGE_SIZE = 32
FEATURES = 192  # size of a simulated feature vector, that of the tiny CvT
BATCH = 64
COUPLINGS = (0.0, 1.0, 2.0)
FEATURE_COUPLINGS = (0.0, 1.0, 2.0, 3.0)
FEATURE_NOISE = (0.4, 0.8)
LOUD = 60.0  # pixel noise of the ambiguous images, in grey levels
FUSED = ("equal", "linear")

# What may keep A from being flattened: configuration and variant. 0.1 / C and 0.1 / C^2 are the paper's weight on a
# norm that is divided by C or C^2.
REMEDIES = {
    "theta-0.00025": ({"association_weight": 0.1 / LABELS**2}, ""),
    "theta-0.005": ({"association_weight": 0.1 / LABELS}, ""),
    "off-diagonal": ({}, "off_diagonal"),
    "offset": ({}, "offset"),
    "offset-none": ({"association_norm": "none"}, "offset"),
}


@dataclass(frozen=True)
class Arm:
    """A setting whose mAP is wanted.

    Attributes:
        name: of its file of results.
        config: what differs from the paper's setting, values of `AssocFormerConfig`.
        backbone: a preset, or `"none"`: the head then sees simulated features instead of images.
        coupling: see `label_set_distribution`.
        noise: of the pixels in grey levels, or of the evidence for a label in simulated features.
        variant: a change of A or of its penalty that the package does not have, see `create_model`.
        oracle: whether to add exact label context to what the model says, see `with_exact_context`.
    """

    name: str
    config: dict = field(default_factory=dict)
    backbone: str = "tiny-cvt"
    coupling: float = 1.0
    noise: float = NOISE
    variant: str = ""
    oracle: bool = False


@dataclass(frozen=True)
class Scale:
    """How long the runs are, and how many."""

    train: int = 2500
    test: int = 1000
    epochs: int = 6
    rates: tuple[float, ...] = (7e-4, 1.4e-3, 2.8e-3)
    extensions: int = 2  # further rates, while the best is the last at either end
    tuning_seeds: tuple[int, ...] = (100,)
    seeds: int = 5


FEATURE_SCALE = Scale(train=8000, test=4000, epochs=8, rates=(2e-3, 4e-3, 8e-3))
QUICK = Scale(train=256, test=128, epochs=2, rates=(1e-3, 2e-3), extensions=0, seeds=2)


def arms() -> list[Arm]:
    """All arms; those that the paper reports come first."""
    norms = ("none", "l1", "l1_l2", "nuclear")
    linear = {"fusion": "linear"}
    rows = [
        Arm("equal"),
        Arm("linear", linear),
        *(Arm(f"norm-{norm}", {"association_norm": norm}) for norm in norms),
        Arm("association", {"fusion": "association"}),
        Arm("learnable", {"fusion": "learnable"}),
        *feature_arms(),
        *(Arm(name, config, variant=variant) for name, (config, variant) in REMEDIES.items()),
        Arm("theta-1", {"association_weight": 1.0}),
        *(Arm(f"swin-{name}", {"fusion": name}, backbone="tiny-swin") for name in FUSED),
        Arm("bce", {"gamma_neg": 0}),
        Arm("focal", {"gamma_pos": 2}),
        *(Arm(f"kernel-{k}", {"association_kernel_size": k}) for k in (1, 5, 7)),
        Arm("shared", {"readout": "shared"}),
    ]
    for coupling in (0.0, 2.0):
        rows += [Arm(f"coupling-{coupling:g}-{name}", {"fusion": name}, coupling=coupling) for name in FUSED]
    rows.append(Arm("isolated", linear | {"gamma_neg": 0}, coupling=0.0, oracle=True))
    rows += [Arm(f"loud-{name}", {"fusion": name}, noise=LOUD) for name in FUSED]
    rows.append(Arm("loud-isolated", linear | {"gamma_neg": 0}, coupling=0.0, noise=LOUD, oracle=True))
    return rows


def feature_arms() -> list[Arm]:
    """On simulated features, with the loss whose optimum is the posterior that the oracle computes."""
    configs = {"equal": {}, "free": {"association_norm": "none"}, "linear": {"fusion": "linear"}}
    rows = [
        Arm(f"features-{noise:g}-{coupling:g}-{name}", {"gamma_neg": 0} | config, "none", coupling, noise)
        for noise in FEATURE_NOISE
        for coupling in FEATURE_COUPLINGS
        for name, config in configs.items()
    ]
    noise, coupling = FEATURE_NOISE[0], 2.0
    return rows + [
        Arm(f"features-{noise:g}-{coupling:g}-{name}", {"gamma_neg": 0} | config, "none", coupling, noise, variant)
        for name, (config, variant) in REMEDIES.items()
    ]


@lru_cache(maxsize=16)
def draw(backbone: str, coupling: float, noise: float, split: str, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Inputs and multi-hot labels `(size, LABELS)`: uint8 images, or feature vectors `(size, FEATURES)`."""
    if backbone == "none":
        evidence, targets = draw_evidence(coupling, noise, split, size, seed)
        rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(FEATURES, LABELS)))[0]
        centred = evidence - targets.mean(0)
        features = centred @ rotation.T * (FEATURES / centred.var(0).sum()) ** 0.5
        return torch.from_numpy(features).float(), torch.from_numpy(targets).float()
    scenes = load_scenes(split, size, IMAGE_SIZE, seed, coupling, noise)
    files = [image["bytes"] for image in scenes.data.column("image").to_pylist()]
    images = torch.stack([torch.from_numpy(np.array(Image.open(io.BytesIO(file)))) for file in files])
    targets = torch.zeros(size, LABELS)
    for row, labels in zip(targets, scenes["labels"], strict=True):
        row[labels] = 1
    return images.permute(0, 3, 1, 2).contiguous(), targets


def draw_evidence(coupling: float, noise: float, split: str, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Each label's presence under Gaussian noise, and the presence, both `(size, LABELS)`."""
    generator = np.random.default_rng([seed, split == "train"])
    label_sets, probabilities = label_set_distribution(coupling)
    targets = label_sets[generator.choice(len(label_sets), size, p=probabilities / probabilities.sum())]
    return targets + generator.normal(0, noise, targets.shape), targets


def batches(inputs: Tensor, targets: Tensor, order: Tensor) -> Iterator[dict[str, Tensor]]:
    """As `MultiLabelCollator` makes them."""
    for index in order.split(BATCH):
        values = inputs[index] / 255 if inputs.dtype == torch.uint8 else inputs[index]
        readable = torch.ones(len(index), dtype=torch.bool)
        yield {"pixel_values": values, "labels": targets[index], "index": index, "readable": readable}


class FeatureBackbone(PreTrainedModel):
    """Passes feature vectors on, in the place of a backbone."""

    config_class = PreTrainedConfig

    def forward(self, pixel_values: Tensor, **options) -> BaseModelOutputWithPooling:
        return BaseModelOutputWithPooling(pooler_output=pixel_values)


class VariantModel(AssocFormerForMultiLabel):
    """Eq. 9 with the norm of A without its diagonal, as `variant` `"off_diagonal"`."""

    variant = ""

    def _loss(self, scores: AssociationScores, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        a = scores.association
        if self.variant == "off_diagonal":
            a = a - torch.diag_embed(a.diagonal(dim1=1, dim2=2))
        return super()._loss(scores._replace(association=a), labels)


class OffsetAssociation(AssociationModule):
    """Eq. 5 with a learnable offset: A = sigmoid(K K' + b), so that every pair can come near 0."""

    def __init__(self, *args):
        super().__init__(*args)
        self.offset = nn.Parameter(torch.zeros(()))

    def forward(self, features: Tensor, whole: bool = True) -> tuple[Tensor, None, Tensor]:
        keys, messages = self.key(features.dtype), self.message(features.dtype)
        readout, bias = self.readout(features.dtype)
        shifts = shifted(features, keys.shape[1])
        association = torch.sigmoid(keys @ (shifts @ shifts.mT) @ keys.T + self.offset)
        evidence = ((association @ messages) * (shifts @ readout.T).mT).sum(-1)
        return association, None, evidence + bias


def create_model(arm: Arm) -> AssocFormerForMultiLabel:
    backbone = None
    if arm.backbone == "none":
        backbone = FeatureBackbone(PreTrainedConfig(hidden_size=FEATURES))
    backbone_config = backbone.config if backbone else BACKBONE_PRESETS[arm.backbone](IMAGE_SIZE)
    model = VariantModel(AssocFormerConfig(backbone_config=backbone_config, num_labels=LABELS, **arm.config), backbone)
    model.variant = arm.variant
    if arm.variant == "offset":
        plain = model.head.association
        model.head.association = OffsetAssociation(FEATURES, LABELS, model.config.association_kernel_size)
        model.head.association.load_state_dict(plain.state_dict(), strict=False)
    return model


def run(arm: Arm, scale: Scale, rate: float, seed: int) -> dict:
    """Trains once; the last epoch counts, on images that neither trained nor tuned anything.

    Returns:
        What the tables need: metrics in percent, moments of A by epoch, the mean A, and seconds.
    """
    train = draw(arm.backbone, arm.coupling, arm.noise, "train", scale.train, seed)
    test = draw(arm.backbone, arm.coupling, arm.noise, "validation", scale.test, seed)
    started = time.perf_counter()
    torch.manual_seed(seed)
    model, accelerator = create_model(arm), Accelerator(cpu=True)
    steps = -(-scale.train // BATCH)
    optimizer = create_optimizer(model, rate, weight_decay=1e-4)
    scheduler = create_scheduler(optimizer, scale.epochs * steps)
    model, optimizer, scheduler = accelerator.prepare(model, optimizer, scheduler)
    recipe = RecipeArguments(batch_size=BATCH, epochs=scale.epochs, learning_rate=rate, seed=seed)
    ema = ModelEmaV3(model)  # part of the loop; a run is too short for an average
    guard = GradientGuard(model, optimizer, accelerator, recipe)
    order = torch.Generator().manual_seed(seed)
    history = []
    for epoch in range(scale.epochs):
        shuffled = batches(*train, torch.randperm(scale.train, generator=order))
        progress = Progress(epoch, 0, steps, torch.zeros(SUMS))
        losses = train_one_epoch(model, ema, shuffled, scheduler, accelerator, recipe, progress, guard)
        result = evaluate_on(model, test, accelerator)
        history.append({"mAP": 100 * result.metrics["mAP"], "asl": losses["asl"]} | moments(result))
    record = {"mAP": history[-1]["mAP"], "CF1": 100 * result.metrics["CF1"], "history": history}
    if result.association is not None:
        record["association"] = result.association[np.triu_indices(LABELS, 1)].round(4).tolist()
    record["seconds"] = time.perf_counter() - started
    if arm.oracle:
        record["context"] = isolated_and_with_context(arm, scale, seed, model, accelerator)
    return record


def evaluate_on(model: nn.Module, data: tuple[Tensor, Tensor], accelerator: Accelerator) -> Evaluation:
    return evaluate({"model": model}, list(batches(*data, torch.arange(len(data[0])))), accelerator)["model"]


def moments(result: Evaluation) -> dict:
    """Mean and standard deviation of A; the latter among the pairs of the mean A; its effective rank."""
    if result.association is None:
        return {}
    share = np.linalg.svd(result.association, compute_uv=False)
    share = share / share.sum()
    return {
        "mean": result.association_mean,
        "std": result.association_std,
        "pair_std": float(result.association[np.triu_indices(LABELS, 1)].std()),
        # The exponential of the entropy of the singular values (Roy & Vetterli 2007).
        "rank": float(np.exp(-(share * np.log(share.clip(1e-30))).sum())),
    }


def with_exact_context(evidence: np.ndarray, coupling: float) -> np.ndarray:
    """Each label's posterior from all labels' evidence, under the distribution that drew the labels.

    Args:
        evidence: log-likelihood ratio of present to absent, `(images, labels)`, as if independent given the labels.
        coupling: that of the images.
    """
    label_sets, probabilities = label_set_distribution(coupling)
    posteriors = []
    for block in np.array_split(evidence, -(-len(evidence) // 250)):
        logits = block @ label_sets.T + np.log(probabilities)
        posterior = np.exp(logits - logits.max(1, keepdims=True))
        posteriors.append(posterior @ label_sets / posterior.sum(1, keepdims=True))
    return np.concatenate(posteriors)


def isolated_and_with_context(arm: Arm, scale: Scale, seed: int, model: nn.Module, accelerator: Accelerator) -> dict:
    """What exact label context would add to a model that never saw any, by the coupling of the test images.

    The model was trained where labels are as good as independent, with the loss whose optimum is the posterior; its
    logit less the prior's is a label's own evidence, scaled by the temperature that fits further images.
    """
    label_sets, probabilities = label_set_distribution(arm.coupling)
    prior = _logit(probabilities @ label_sets)
    inputs, targets = draw(arm.backbone, arm.coupling, arm.noise, "train", scale.train + scale.test, seed)
    fitted = evaluate_on(model, (inputs[scale.train :], targets[scale.train :]), accelerator)
    signs = 1 - 2 * fitted.targets
    logits = _logit(fitted.scores)
    factor = min(np.geomspace(0.2, 1.5, 41), key=lambda f: np.logaddexp(0, signs * f * logits).mean())
    rows = {}
    for coupling in COUPLINGS:
        data = draw(arm.backbone, coupling, arm.noise, "validation", scale.test, seed)
        result = evaluate_on(model, data, accelerator)
        context = with_exact_context(factor * _logit(result.scores) - prior, coupling)
        rows[f"{coupling:g}"] = {"isolated": 100 * result.metrics["mAP"], "context": _mAP(context, result.targets)}
    return rows


@cache
def feature_oracle(coupling: float, noise: float, seeds: int, size: int) -> tuple[list[float], list[float]]:
    """mAP by seed of simulated features: from each label's own evidence, and of the exact posterior."""
    isolated, context = [], []
    for seed in range(seeds):
        evidence, targets = draw_evidence(coupling, noise, "validation", size, seed)
        isolated.append(_mAP(evidence, targets))
        context.append(_mAP(with_exact_context((evidence - 0.5) / noise**2, coupling), targets))
    return isolated, context


def _mAP(scores: np.ndarray, targets: np.ndarray) -> float:  # noqa: N802
    return 100 * float(np.nanmean(average_precision(scores, targets)))


def _logit(probability: np.ndarray) -> np.ndarray:
    return logit(np.clip(probability.astype(np.float64), 1e-7, 1 - 1e-7))


class Results:
    """The finished runs of an arm: the lines of its file, those of other settings aside."""

    def __init__(self, arm: Arm, scale: Scale, folder: Path):
        self.path = folder / f"{arm.name}.jsonl"
        self.scale = scale
        self.settings = json.loads(json.dumps({"arm": asdict(arm), "scale": asdict(scale)}))
        # How many there are does not change a run.
        for key in ("rates", "extensions", "tuning_seeds", "seeds"):
            del self.settings["scale"][key]
        self.runs: dict[tuple[float, int], dict] = {}
        for line in self.path.read_text().splitlines() if self.path.exists() else []:
            record = json.loads(line)
            if record["settings"] == self.settings:
                self.runs[record["rate"], record["seed"]] = record

    def complete(self, arm: Arm, rate: float, seeds: Iterable[int]):
        """Makes the runs that are missing, and writes each down once it is done."""
        for seed in seeds:
            if (rate, seed) not in self.runs:
                record = {"rate": rate, "seed": seed, "settings": self.settings} | run(arm, self.scale, rate, seed)
                self.runs[rate, seed] = record
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(record) + "\n")

    @property
    def sweep(self) -> dict[float, float]:
        """Mean mAP on the tuning seeds by learning rate."""
        seeds = self.scale.tuning_seeds
        tried = sorted({rate for rate, _ in self.runs if all((rate, seed) in self.runs for seed in seeds)})
        return {rate: float(np.mean([self.runs[rate, seed]["mAP"] for seed in seeds])) for rate in tried}

    @property
    def next_rate(self) -> float | None:
        """The learning rate to try next; None once the sweep is done."""
        missing = [rate for rate in self.scale.rates if rate not in self.sweep]
        if missing:
            return missing[0]
        tried = list(self.sweep)
        if self.best_rate not in (tried[0], tried[-1]) or len(tried) == len(self.scale.rates) + self.scale.extensions:
            return None
        return tried[-1] * 2 if self.best_rate == tried[-1] else tried[0] / 2

    @property
    def best_rate(self) -> float:
        return max(self.sweep, key=self.sweep.get)

    @property
    def finished(self) -> list[dict] | None:
        """The runs at the chosen rate by seed; None while one is missing."""
        if self.next_rate is not None:
            return None
        runs = [self.runs.get((self.best_rate, seed)) for seed in range(self.scale.seeds)]
        return None if None in runs else runs


def run_arm(arm: Arm, scale: Scale, folder: Path) -> str:
    """Tunes and trains an arm, as far as that is left to do."""
    torch.set_num_threads(1)
    results = Results(arm, scale, folder)
    while (rate := results.next_rate) is not None:
        results.complete(arm, rate, scale.tuning_seeds)
    results.complete(arm, results.best_rate, range(scale.seeds))
    values = [record["mAP"] for record in results.finished]
    return f"{arm.name}: mAP {np.mean(values):.2f} at {results.best_rate:.2g}"


def scale_of(arm: Arm, quick: bool) -> Scale:
    if quick:
        return QUICK
    if arm.backbone == "none":
        return FEATURE_SCALE
    # With and without AM is what matters most, and without it the mAP at the highest rates varies by ten points.
    return Scale(tuning_seeds=(100, 101, 102, 103)) if arm.name.split("-")[-1] in FUSED else Scale()
