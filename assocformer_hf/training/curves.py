"""What a run leaves behind to look at: trackers, a table and a plot of its epochs."""

import csv
from pathlib import Path

from accelerate.tracking import LoggerType, get_available_trackers

from assocformer_hf.model.configuration_assocformer import ConfigurationError

HISTORY_FILE = "history.csv"
CURVES_FILE = "curves.png"


def tracker_names(report_to: str) -> list[str]:
    """The trackers of Accelerate that an option means.

    Args:
        report_to: `"auto"` (TensorBoard where it is installed), `"none"`, `"all"`, or the name of one.

    Raises:
        ConfigurationError: if it is unknown, or not installed.
    """
    available = [str(name.value) for name in get_available_trackers()]
    if report_to == "none":
        return []
    if report_to == "all":
        return available
    if report_to == "auto":
        return [name for name in available if name == "tensorboard"]
    if report_to not in [name.value for name in LoggerType]:
        raise ConfigurationError(
            f"report_to must be auto, none, all or a tracker of Accelerate, such as tensorboard; got {report_to!r}"
        )
    if report_to not in available:
        raise ConfigurationError(f"report_to: {report_to} is not installed; pip install {report_to}, or use none")
    return [report_to]


def flat(entry: dict) -> dict[str, float]:
    """An epoch of the history in one level: `{"ema": {"mAP": …}}` becomes `{"ema_mAP": …}`."""
    values = {}
    for name, value in entry.items():
        inner = {f"{name}_{key}": v for key, v in value.items()} if isinstance(value, dict) else {name: value}
        values |= {key: v for key, v in inner.items() if v is not None}
    return values


def write_history(history: list[dict], path: Path):
    """Writes the epochs as a CSV file, a row each."""
    rows = [flat(entry) for entry in history]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def plot_curves(history: list[dict], path: Path):
    """Draws loss, learning rate, mAP and F1 by the epoch."""
    # The object interface leaves pyplot's global state, and the backend that the caller chose, alone.
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    rows = [flat(entry) for entry in history]
    panels = {
        "loss": {"loss": "eq. 9", "asl": "asymmetric loss"},
        "learning rate at the end of the epoch": {"learning_rate": None},
        "mAP in percent": {"raw_mAP": "raw", "ema_mAP": "EMA"},
        "F1 in percent": {"raw_CF1": "CF1 raw", "ema_CF1": "CF1 EMA", "raw_OF1": "OF1 raw", "ema_OF1": "OF1 EMA"},
    }
    figure = Figure(figsize=(10, 6.5), layout="constrained")
    for axes, (title, curves) in zip(figure.subplots(2, 2).flat, panels.items(), strict=True):
        for key, label in curves.items():
            scale = 100 if "percent" in title else 1
            style = "--" if key.startswith("raw") else "-"
            colour = {"CF1": "C0", "OF1": "C1"}.get(key.partition("_")[2])
            epochs = [row["epoch"] for row in rows]
            axes.plot(epochs, [scale * row[key] for row in rows], style, label=label, color=colour, marker=".")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if len(curves) > 1:
            axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)
