"""What a run shows of itself: trackers, and its epochs as lines, a table and a plot."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from accelerate.tracking import LoggerType, get_available_trackers

from assocformer_hf.data.images.dataset import MultiLabelImages
from assocformer_hf.data.images.decoding import decode_stored
from assocformer_hf.evaluation.evaluator import Evaluation
from assocformer_hf.evaluation.metrics import reaches
from assocformer_hf.inference.images import spread
from assocformer_hf.interpretation.predictions import predictions_figure
from assocformer_hf.model.configuration_assocformer import AssocFormerConfig
from assocformer_hf.model.losses import asymmetric_loss
from assocformer_hf.option_values import OptionError
from assocformer_hf.wording import counted

HISTORY_FILE = "history.csv"
CURVES_FILE = "curves.png"
SAMPLES = 10  # images of the evaluation that a tracker shows
COLOURS = {"asl": "C1", "CF1": "C2"}  # of curves that share a panel with others


def tracker_names(report_to: str) -> list[str]:
    """The trackers of Accelerate that an option means.

    Args:
        report_to: `"auto"` (TensorBoard where it is installed), `"none"`, `"all"`, or the name of one.

    Raises:
        OptionError: if it is unknown, or not installed.
    """
    available = [str(name.value) for name in get_available_trackers()]
    if report_to == "none":
        return []
    if report_to == "all":
        return available
    if report_to == "auto":
        return [name for name in available if name == "tensorboard"]
    if report_to not in [name.value for name in LoggerType]:
        raise OptionError(
            f"report_to must be auto, none, all or a tracker of Accelerate, such as tensorboard; got {report_to!r}"
        )
    if report_to not in available:
        raise OptionError(f"report_to: {report_to} is not installed; pip install {report_to}, or use none")
    return [report_to]


def flat(entry: dict) -> dict[str, float]:
    """An epoch of the history in one level: `{"ema": {"mAP": …}}` becomes `{"ema_mAP": …}`."""
    values = {}
    for name, value in entry.items():
        inner = {f"{name}_{key}": v for key, v in value.items()} if isinstance(value, dict) else {name: value}
        values |= {key: v for key, v in inner.items() if v is not None}
    return values


def plot_curves(history: list[dict], path: Path) -> None:
    """Draws losses, the penalty of A, learning rate, mAP and F1 by the epoch, with the epoch of the best mAP marked."""
    # The object interface leaves pyplot's global state, and the backend that the caller chose, alone.
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    rows = [flat(entry) for entry in history]
    rows = [row | {"penalty": row["loss"] - row["asl"]} for row in rows]
    panels: dict[str, dict[str, str | None]] = {
        "asymmetric loss": {"asl": "training", "raw_asl": "validation", "ema_asl": "validation, averaged weights"},
        "mean average precision (mAP), %": {"raw_mAP": "weights", "ema_mAP": "averaged weights"},
        "F1, %": {
            "raw_OF1": "all decisions (OF1)", "ema_OF1": "the same, averaged weights",
            "raw_CF1": "of the labels' means (CF1)", "ema_CF1": "the same, averaged weights",
        },
        "learning rate": {"learning_rate": None},
        "penalty of A in the loss": {"penalty": None},
        "entries of A: mean, and standard deviation as a band": {"raw_association_mean": None},
    }  # fmt: skip
    panels = {title: curves for title, curves in panels.items() if set(curves) <= rows[0].keys()}
    if not any(row["penalty"] for row in rows):  # no association module, or no norm of its A
        panels.pop("penalty of A in the loss")
    best = flat(max(history, key=lambda entry: max(rank_key(entry["raw"]), rank_key(entry["ema"]))))
    figure = Figure(figsize=(13, 6.5) if len(panels) > 4 else (9, 6.5), layout="constrained")
    grid = list(figure.subplots(2, 3 if len(panels) > 4 else 2).flat)
    epochs = [row["epoch"] for row in rows]
    for axes, (title, curves) in zip(grid, panels.items(), strict=False):
        for key, label in curves.items():
            values = [(100 if title.endswith("%") else 1) * row[key] for row in rows]
            style = "--" if key.startswith("raw") and len(curves) > 1 else "-"
            colour = COLOURS.get(key.partition("_")[2], "C0")
            axes.plot(epochs, values, style, label=label, color=colour, marker="." if len(rows) < 50 else None)
        if "raw_association_mean" in curves:
            ends = [(row["raw_association_mean"], row["raw_association_std"]) for row in rows]
            band = [[mean + sign * std for mean, std in ends] for sign in (-1, 1)]
            axes.fill_between(epochs, *band, alpha=0.2)
            axes.set_ylim(0, 1)
        axes.ticklabel_format(axis="y", scilimits=(-3, 4))
        axes.axvline(best["epoch"], color="0.5", linewidth=1, linestyle=":")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if len(curves) > 2:  # room for the legend
            low, high = axes.get_ylim()
            axes.set_ylim(low, high + 0.4 * (high - low))
        if len(curves) > 1:
            axes.legend(fontsize=8, loc="upper right" if len(curves) > 2 else "best")
    for axes in grid[len(panels) :]:
        axes.remove()
    value = max(best["raw_mAP"], best["ema_mAP"])
    figure.suptitle(f"best epoch: {best['epoch']} of {len(rows)} (dotted), mAP {100 * value:.1f}%", fontsize=11)
    figure.savefig(path, dpi=110)


def sample_predictions(images: MultiLabelImages, evaluation: Evaluation, config: AssocFormerConfig) -> np.ndarray:
    """Some images of an evaluation, the same after every epoch, with their labels as found, wrong and missed.

    Returns:
        A picture, `(height, width, 3)` in uint8.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    names, thresholds = np.array(config.label_names), np.array(config.thresholds)
    rows = np.argsort(evaluation.indices)
    rows = rows[spread(len(rows), SAMPLES)]
    pictures, tagged, truths = [], [], []
    for row in rows.tolist():
        index, scores = int(evaluation.indices[row]), evaluation.scores[row]
        pictures.append(decode_stored(images.dataset[index]["image"], index))
        known = evaluation.targets[row] >= 0  # of an unknown label nobody can say whether it is right
        chosen = np.flatnonzero(reaches(scores, thresholds) & known)
        chosen = chosen[np.argsort(-scores[chosen], kind="stable")]
        tagged.append(SimpleNamespace(labels=names[chosen].tolist(), scores=scores[chosen].tolist()))
        truths.append(set(names[evaluation.targets[row] == 1].tolist()))
    canvas = FigureCanvasAgg(predictions_figure(pictures, tagged, truths))
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def log_line(entry: dict, epochs: int, best: float) -> str:
    """An epoch in one line for people; mAP in percent."""
    raw, ema = entry["raw"], entry["ema"]
    spread = parts = ""
    if raw["association_mean"] is not None:
        spread = f"  A {raw['association_mean']:.3f} ± {raw['association_std']:.3f}"
        share = 1 - entry["asl"] / entry["loss"] if entry["loss"] else 0
        parts = f"{100 * share:.0f}% of it the penalty of A, " if share > 0 else ""
    left = entry["seconds"] * (epochs - entry["epoch"])
    skipped = f"  {counted(entry['skipped_steps'], 'step')} skipped" if entry["skipped_steps"] else ""
    return (
        f"epoch {entry['epoch']:>3}/{epochs}  loss {entry['loss']:.4f} ({parts}ASL {entry['asl']:.4f}, "
        f"on validation {min(raw['asl'], ema['asl']):.4f}){spread}  lr {entry['learning_rate']:.1e}  "
        f"mAP raw {100 * raw['mAP']:.2f} EMA {100 * ema['mAP']:.2f} best {100 * best:.2f}  "
        f"{entry['images_per_second']:.0f} img/s  {entry['peak_memory_GiB']:.1f} GiB{skipped}  "
        f"{entry['seconds']:.1f} s, {timedelta(seconds=round(left))} left"
    )


def rank_key(headline: Mapping) -> tuple[float, float]:
    """What tells the better of two evaluations: the mAP, and where it is the same, the lower loss."""
    return headline["mAP"], -headline["asl"]


def headline(evaluation: Evaluation, config: AssocFormerConfig) -> dict:
    """The numbers of an evaluation that the history keeps."""
    scores, targets = torch.from_numpy(evaluation.scores), torch.from_numpy(evaluation.targets)
    # The logits of float32 scores, which are as exact as the fourth digit of a loss needs.
    loss = asymmetric_loss(
        torch.logit(scores, eps=1e-6), targets.float(), config.gamma_pos, config.gamma_neg, config.clip
    )
    return {key: evaluation.metrics[key] for key in ("mAP", "CF1", "OF1")} | {
        "asl": loss.item(),
        "association_mean": evaluation.association_mean,
        "association_std": evaluation.association_std,
    }
