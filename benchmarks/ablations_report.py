"""Tables and plots of `benchmarks.ablations`, from the lines of its runs."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
from scipy.stats import rankdata, ttest_rel

from assocformer_hf.data.scenes.scenes import label_set_distribution
from benchmarks.ablations_runs import (
    COUPLINGS,
    FEATURE_COUPLINGS,
    FEATURE_NOISE,
    LABELS,
    LOUD,
    NOISE,
    Results,
    feature_oracle,
)
from benchmarks.tables import NOT_RUN, fill_page, header, holm, mean_and_error, row

PAIRS = np.triu_indices(LABELS, 1)
RESAMPLES = 1000
NORMS = {"none": "norm-none", "l1": "norm-l1", "l2": "equal", "l1_l2": "norm-l1_l2", "nuclear": "norm-nuclear"}
PAPER_NORMS = {"l1": "95.4", "l2": "96.0", "l1_l2": "92.2", "nuclear": "95.8", "none": "–"}
PAPER_GAINS = {"swin": "89.2 → 89.8 | 95.8 → 96.0", "cvt": "88.9 → 90.1 | 96.0 → 96.2"}
THETAS = {"0": "norm-none", "0.1 / C² = 0.00025": "theta-0.00025", "0.1 / C = 0.005": "theta-0.005"}
THETAS |= {"0.1": "equal", "1": "theta-1"}
REMEDIES = {
    "the paper's: l2 of A, θ=0.1": "equal",
    "θ=0.1 / C": "theta-0.005",
    "θ=0.1 / C²": "theta-0.00025",
    "l2 of A without its diagonal": "off-diagonal",
    "offset, A = sigmoid(K Kᵀ + b)": "offset",
    "offset, no norm": "offset-none",
    "no norm": "norm-none",
}
REMEDIES_ON_FEATURES = {label: f"features-0.4-2-{arm}" for label, arm in REMEDIES.items()}
REMEDIES_ON_FEATURES |= {"no norm": "features-0.4-2-free", "linear": "features-0.4-2-linear"}


def write_report(results: Mapping[str, Results], page: Path):
    """Replaces the tables of the page, each between a pair of comments with its name, and the plots beside it.

    A page that does not exist becomes one of tables alone.
    """
    tables = {
        "runs": runs_table(results),
        "backbones": backbones_table(results),
        "fusions": comparison(results, {"equal": "equal", "association": "association", "learnable": "learnable",
                                        "linear": "linear"}, "fusion", "equal"),
        "norms": norms_table(results),
        "thetas": comparison(results, THETAS, "θ of the l2 norm", "equal", association_cells),
        "losses": comparison(results, {"ASL, γ+ 0, γ− 2": "equal", "BCE, γ+ 0, γ− 0": "bce",
                                       "focal, γ+ 2, γ− 2": "focal"}, "loss", "equal"),
        "heads": comparison(results, {"k=1": "kernel-1", "k=3": "equal", "k=5": "kernel-5", "k=7": "kernel-7",
                                      "k=3, readout shared": "shared"}, "head", "equal"),
        "context_images": context_images_table(results),
        "context_features": context_features_table(results),
        "remedies": comparison(results, REMEDIES, "change", "equal", association_cells),
        "remedies_features": comparison(results, REMEDIES_ON_FEATURES, "change", "features-0.4-2-equal",
                                        association_cells),
        "rates": rates_table(results),
    }  # fmt: skip
    fill_page(page, tables)
    (page.parent / "images").mkdir(parents=True, exist_ok=True)
    plot_training(results, page.parent / "images/ablations_association.png")
    plot_context(results, page.parent / "images/ablations_context.png")


def comparison(results, rows: Mapping[str, str], heading: str, reference: str, more=None) -> list[str]:
    """mAP of each arm, its difference from the reference paired by seed, and the p of a paired t-test after Holm."""
    p_values = holm({arm: p_value(results, arm, reference) for arm in rows.values() if arm != reference})
    titles = more(results, reference)[0] if more else []
    table = header(heading, "mAP", "difference", "p (Holm)", "learning rate", *titles)
    for label, arm in rows.items():
        gain = "–" if arm == reference else difference(results, arm, reference)
        rate = f"{results[arm].best_rate:.2g}" if results[arm].finished else NOT_RUN
        cells = more(results, arm)[1] if more else []
        table.append(row(label, score(results, arm), gain, p_values.get(arm, "–"), rate, *cells))
    return table


def backbones_table(results) -> list[str]:
    names = {"Swin, tiny": ("swin-linear", "swin-equal", "swin"), "CvT, tiny": ("linear", "equal", "cvt")}
    p_values = holm({am: p_value(results, am, linear) for linear, am, _ in names.values()})
    table = header(
        "backbone", "without AM", "with AM", "difference", "p (Holm)", "paper, large model, COCO", "paper, VOC 2007"
    )
    for label, (linear, am, paper) in names.items():
        cells = score(results, linear), score(results, am), difference(results, am, linear), p_values[am]
        table.append(row(label, *cells, PAPER_GAINS[paper]))
    return table


def norms_table(results) -> list[str]:
    table = comparison(results, NORMS, "norm, θ=0.1", "equal", association_cells)
    papers = ["paper, VOC 2007", "---", *(PAPER_NORMS[norm] for norm in NORMS)]
    return [f"{line} {paper} |" for line, paper in zip(table, papers, strict=True)]


def association_cells(results, arm: str) -> tuple[list[str], list[str]]:
    """Titles and cells of what A has become at the end of training, mean over the seeds."""
    if results[arm].settings["arm"]["config"].get("fusion") == "linear":
        return [], ["–"] * 4
    titles = ["mean of A", "sd over pairs", "effective rank", "Spearman's ρ with co-occurrence [95%]"]
    runs = results[arm].finished
    if runs is None:
        return titles, [NOT_RUN] * len(titles)
    last = [run["history"][-1] for run in runs]
    cells = [f"{np.mean([values[key] for values in last]):.{digits}f}" for key, digits in
             (("mean", 2), ("pair_std", 3), ("rank", 2))]  # fmt: skip
    return titles, [*cells, correlation_cell(results, arm)]


def correlation_cell(results, arm: str) -> str:
    runs = results[arm].finished
    if runs is None:
        return NOT_RUN
    associations = np.array([run["association"] for run in runs])
    middle, low, high = rank_correlation(associations, results[arm].settings["arm"]["coupling"])
    return f"{middle:+.2f} [{low:+.2f}, {high:+.2f}]"


def context_images_table(results) -> list[str]:
    """AM's gain where labels say more or less about each other, beside what their exact use would give."""
    settings = [(NOISE, coupling, f"coupling-{coupling:g}-") for coupling in COUPLINGS] + [(LOUD, 1.0, "loud-")]
    settings[1] = (NOISE, 1.0, "")
    arms = [(prefix + "equal", prefix + "linear") for *_, prefix in settings]
    p_values = holm({am: p_value(results, am, linear) for am, linear in arms})
    table = header(
        "pixel noise", "coupling", "context strength", "isolated evidence", "with exact context", "linear", "AM",
        "AM − linear", "p (Holm)",
    )  # fmt: skip
    for (noise, coupling, _), (am, linear) in zip(settings, arms, strict=True):
        runs = results["isolated" if noise == NOISE else "loud-isolated"].finished
        bounds = [NOT_RUN] * 2
        if runs:
            bounds = [mean_and_error([run["context"][f"{coupling:g}"][key] for run in runs]) for key in
                      ("isolated", "context")]  # fmt: skip
        cells = *bounds, score(results, linear), score(results, am), difference(results, am, linear), p_values[am]
        table.append(row(f"{noise:g}", f"{coupling:g}", f"{context_strength(coupling):.2f}", *cells))
    return table


def context_features_table(results) -> list[str]:
    arms = {
        (noise, coupling): [f"features-{noise:g}-{coupling:g}-{name}" for name in ("linear", "equal", "free")]
        for noise in FEATURE_NOISE
        for coupling in FEATURE_COUPLINGS
    }
    p_values = holm({am: p_value(results, am, linear) for linear, *others in arms.values() for am in others})
    table = header(
        "noise", "coupling", "context strength", "isolated evidence", "exact posterior", "linear",
        "AM, l2 θ=0.1, − linear", "p (Holm)", "AM, no norm, − linear", "p (Holm)",
        "its ρ with co-occurrence [95%]",
    )  # fmt: skip
    for (noise, coupling), (linear, *others) in arms.items():
        bounds = map(mean_and_error, feature_bounds(results, linear))
        cells = [cell for am in others for cell in (difference(results, am, linear), p_values[am])]
        cells.append(correlation_cell(results, others[-1]))
        strength = f"{context_strength(coupling):.2f}"
        table.append(row(f"{noise:g}", f"{coupling:g}", strength, *bounds, score(results, linear), *cells))
    return table


def feature_bounds(results, arm: str) -> tuple[list[float], list[float]]:
    """mAP by seed of each label's own evidence, and of the exact posterior, on the arm's test features."""
    settings, scale = results[arm].settings["arm"], results[arm].scale
    return feature_oracle(settings["coupling"], settings["noise"], scale.seeds, scale.test)


def rates_table(results) -> list[str]:
    table = header("arm", "mAP on the tuning seeds by learning rate")
    for name, result in results.items():
        best = result.best_rate if result.sweep else None
        cells = [f"{'**' * (rate == best)}{rate:.2g}: {value:.1f}{'**' * (rate == best)}"
                 for rate, value in result.sweep.items()]  # fmt: skip
        edge = bool(result.sweep) and best in (min(result.sweep), max(result.sweep))
        table.append(row(name, (", ".join(cells) or NOT_RUN) + " (at the edge)" * edge))
    return table


def runs_table(results) -> list[str]:
    complete = [result for result in results.values() if result.finished]
    runs = [run for result in results.values() for run in result.runs.values()]
    return [
        f"{len(complete)} of {len(results)} arms are complete, {len(runs)} runs, "
        f"{sum(run['seconds'] for run in runs) / 60:.0f} core minutes of training and evaluation."
    ]


def values(results, arm: str) -> np.ndarray | None:
    """mAP by seed; None for an arm that is not complete."""
    runs = results[arm].finished
    return None if runs is None else np.array([run["mAP"] for run in runs])


def score(results, arm: str) -> str:
    found = values(results, arm)
    return NOT_RUN if found is None else mean_and_error(found)


def difference(results, arm: str, reference: str) -> str:
    pair = values(results, arm), values(results, reference)
    return NOT_RUN if any(v is None for v in pair) else mean_and_error(pair[0] - pair[1], "+")


def p_value(results, arm: str, reference: str) -> float | None:
    """Of the paired t-test, seed by seed."""
    pair = values(results, arm), values(results, reference)
    return None if any(v is None for v in pair) else float(ttest_rel(*pair).pvalue)


def rank_correlation(associations: np.ndarray, coupling: float = 1.0) -> tuple[float, float, float]:
    """Spearman's correlation of A with the labels' conditional co-occurrence, and its 95% bootstrap interval.

    A is symmetric, so the mean of P(i | j) and P(j | i) stands against it. Seeds and labels are resampled, as
    the pairs of a label are not independent.

    Args:
        associations: mean A above the diagonal, `(seeds, pairs)`.
        coupling: that of the images.

    Returns:
        The mean over the seeds, and the ends of the interval.
    """
    label_sets, probabilities = label_set_distribution(coupling)
    joint = (label_sets.T * probabilities) @ label_sets
    conditional = joint / joint.diagonal()
    truth = (conditional + conditional.T) / 2
    full = np.zeros((len(associations), LABELS, LABELS))
    full[:, PAIRS[0], PAIRS[1]] = full[:, PAIRS[1], PAIRS[0]] = associations
    generator = np.random.default_rng(0)
    resampled = []
    for _ in range(RESAMPLES):
        seeds = generator.integers(len(full), size=len(full))
        labels = generator.integers(LABELS, size=LABELS)
        first, second = labels[PAIRS[0]], labels[PAIRS[1]]
        first, second = first[apart := first != second], second[apart]
        resampled.append(_mean_spearman(full[seeds][:, first, second], truth[first, second]))
    return _mean_spearman(associations, truth[PAIRS]), *np.quantile(resampled, (0.025, 0.975))


def _mean_spearman(rows: np.ndarray, truth: np.ndarray) -> float:
    ranks = np.vstack([rankdata(truth), rankdata(rows, axis=1)])
    return float(np.corrcoef(ranks)[0, 1:].mean())


@cache
def context_strength(coupling: float) -> float:
    """The share of a label's entropy that the other labels of the image resolve, mean over the labels."""
    label_sets, probabilities = label_set_distribution(coupling)
    shares = []
    for label in range(LABELS):
        others = np.delete(label_sets, label, 1) @ 2.0 ** np.arange(LABELS - 1)
        _, group = np.unique(others, return_inverse=True)
        total = np.bincount(group, probabilities)
        present = np.bincount(group, probabilities * label_sets[:, label])
        given = (total * _entropy(present / total)).sum()
        shares.append(1 - given / _entropy(probabilities @ label_sets[:, label]))
    return float(np.mean(shares))


def _entropy(p: np.ndarray) -> np.ndarray:
    p = np.clip(p, 1e-12, 1 - 1e-12)
    return -p * np.log(p) - (1 - p) * np.log1p(-p)


def plot_training(results, path: Path):
    """Mean, spread and rank of A by the epoch, for norms and for weights of the l2 norm."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6), layout="constrained")
    groups = {"norm, θ=0.1": NORMS, "θ of the l2 norm": THETAS}
    titles = {"mean": "mean of A", "pair_std": "standard deviation over pairs", "rank": "effective rank of the mean A"}
    for axes_row, (group, rows) in zip(figure.subplots(2, 3), groups.items(), strict=True):
        for axes, (key, title) in zip(axes_row, titles.items(), strict=True):
            for label, arm in rows.items():
                if runs := results[arm].finished:
                    curves = np.array([[epoch[key] for epoch in run["history"]] for run in runs])
                    epochs = np.arange(1, curves.shape[1] + 1)
                    axes.plot(epochs, curves.mean(0), marker=".", label=label)
                    axes.fill_between(epochs, curves.min(0), curves.max(0), alpha=0.15)
            axes.set(title=title, xlabel="epoch")
            axes.grid(alpha=0.3)
        if axes_row[0].has_data():
            axes_row[-1].legend(title=group, fontsize=8, title_fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=110)


def plot_context(results, path: Path):
    """AM's gain over a linear head by the strength of context, beside what exact use of context would gain."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    panels = figure.subplots(1, 3)
    for axes, noise in zip(panels, FEATURE_NOISE, strict=False):
        prefixes = [f"features-{noise:g}-{coupling:g}-" for coupling in FEATURE_COUPLINGS]
        for name, label in (("equal", "AM, l2 θ=0.1"), ("free", "AM, no norm")):
            _plot_gains(axes, results, [(p + name, p + "linear") for p in prefixes], FEATURE_COUPLINGS, label)
        done = [(c, feature_bounds(results, p + "linear")[1] - found) for c, p in zip(FEATURE_COUPLINGS, prefixes,
                strict=True) if (found := values(results, p + "linear")) is not None]  # fmt: skip
        _error_bars(axes, done, "exact posterior", "k--")
        axes.set_title(f"simulated features, noise {noise:g}", fontsize=10)
    pairs = [("coupling-0-equal", "coupling-0-linear"), ("equal", "linear"), ("coupling-2-equal", "coupling-2-linear")]
    _plot_gains(panels[2], results, pairs, COUPLINGS, "AM, l2 θ=0.1")
    if runs := results["isolated"].finished:
        bounds = [[run["context"][f"{c:g}"] for run in runs] for c in COUPLINGS]
        gains = [np.array([bound["context"] - bound["isolated"] for bound in by_seed]) for by_seed in bounds]
        _error_bars(panels[2], list(zip(COUPLINGS, gains, strict=True)), "exact context on isolated evidence", "k--")
    panels[2].set_title("images, CvT", fontsize=10)
    panels[0].set_ylabel("mAP gained, in points")
    for axes in panels:
        if not axes.has_data():
            axes.text(0.5, 0.5, NOT_RUN, transform=axes.transAxes, ha="center")
            continue
        axes.axhline(0, color="grey", linewidth=0.8)
        axes.set_xlabel("context strength (share of entropy)")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def _plot_gains(axes, results, pairs, couplings, label: str):
    done = [(coupling, values(results, am) - values(results, linear)) for coupling, (am, linear) in
            zip(couplings, pairs, strict=True) if results[am].finished and results[linear].finished]  # fmt: skip
    _error_bars(axes, done, label, "o-")


def _error_bars(axes, points, label: str, style: str):
    """Means over the seeds and their standard errors, by the strength of context."""
    if not points:
        return
    strengths = [context_strength(coupling) for coupling, _ in points]
    errors = [np.std(gains, ddof=1) / len(gains) ** 0.5 for _, gains in points]
    axes.errorbar(strengths, [np.mean(gains) for _, gains in points], errors, fmt=style, label=label, capsize=3)
