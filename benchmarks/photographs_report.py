"""Tables and plots of `benchmarks.photographs`, from the lines of its runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from assocformer_hf.evaluation.association_worth import points
from assocformer_hf.hub.model_folder import read_metrics
from benchmarks import photographs_backbones
from benchmarks.measure import RESULTS
from benchmarks.photographs_findings import figures
from benchmarks.photographs_fine_tuned import (
    SEARCH_FILE,
    fine_tuned_runs,
    fine_tuned_table,
    search_table,
    seeds_rows,
)
from benchmarks.photographs_own_data import own_data_rows, own_data_table
from benchmarks.photographs_rows import Rows
from benchmarks.photographs_runs import ARMS, Arm, Results
from benchmarks.photographs_statistics import BASELINE, Runs, difference, p_value, paired, scores
from benchmarks.tables import NOT_RUN, fill_page, header, holm, mean_and_error, row

FAR_BELOW = 5  # points of mAP below the baseline; a plot that reaches there tells the other heads no more apart
SUMMARY = (
    *("logistic", "am", "attention", "am-attention", "mlp-64", "mlp", "ml-gcn", "add-gcn-256", "ml-decoder-256"),
    *("c-tran-256", "query2label-256", "add-gcn", "ml-decoder", "c-tran", "query2label"),
)
ASSOCIATIONS = ("am", "am-theta-c2", "am-theta", "am-k1", "am-k5", "am-k7", "am-static", "am-attention", "am-shuffled")


def write_report(results: Runs, costs: Mapping[str, dict], page: Path):
    """Replaces the tables of the page and of that of the settings, and the plots beside them.

    Args:
        results: of every arm at every size, by both.
        costs: of every arm, by its name, see `benchmarks.photographs_costs`.
        page: the Markdown file; one that does not exist becomes one of tables alone.
    """
    sizes = sorted({size for _, size in results})
    tables = {"runs": runs_table(results), "summary": summary_table(results, costs, sizes)}
    tables |= figures(results, costs)
    tables |= {f"heads_{size}": heads_table(results, size) for size in sizes}
    tables |= {
        "costs": costs_table(costs),
        "causes": causes_table(results, sizes),
        "association": association_table(results, sizes),
    }
    fill_page(page, tables)
    fill_page(page.with_stem(f"{page.stem}_settings"), {"settings": settings_table(results, sizes)})
    (page.parent / "images").mkdir(exist_ok=True)
    plot_frontier(results, costs, page.parent / "images/photographs_frontier.png")
    plot_association(results, page.parent / "images/photographs_association.png")


README = Path(__file__).parent.parent / "README.md"
BUNDLED_FOLDER = README.parent / "model_cards/assocformer-efficientnet-lite0-mirflickr"
BUNDLED = {
    "photographs_model": "EfficientNet-Lite0 fine-tuned, AM with attention",
    "photographs_student": "tiny Swin from random weights, distilled from it",
}


def write_models(page: Path, results: Path = RESULTS):
    """Replaces the tables of models fine-tuned whole, of random backbones, and of a small set of one's own."""
    files = {title: results / f"{name}.json" for name, title in BUNDLED.items()}
    measured = {title: Rows(file) for title, file in files.items() if file.exists()}
    backbones = photographs_backbones.Results(results / "photographs/backbones.json", photographs_backbones.Scale())
    tables = {"models": models_table(measured), "backbones": photographs_backbones.backbones_table(backbones)}
    tables["fine_tuned"] = fine_tuned_table(runs := fine_tuned_runs(results))
    tables["fine_tuned_search"] = search_table(Rows(results / "photographs" / SEARCH_FILE), runs)
    tables["own_data"] = own_data_table(Rows(results / "photographs/own_data.json"))
    fill_page(page, tables)


def write_readme(results: Runs, page: Path = README, measured: Path = RESULTS):
    """Replaces the table of the README that says what is measured on photographs.

    Args:
        results: of every arm at every size, by both.
        page: the README.
        measured: folder of the results of the other benchmarks.
    """
    this, *others = Rows(measured / "photographs_model.json")
    worth = read_metrics(BUNDLED_FOLDER)["association"]["worth"]
    table = header("on photographs", "measured")
    table.append(row("the model above, on a held-out test set of 5,000 photographs", f"mAP {interval(this, 'mAP')}"))
    table += [
        row(one["model"], f"mAP {interval(one, 'mAP')}, {interval(one, 'below the first')} below it") for one in others
    ]
    table += seeds_rows(fine_tuned_runs(measured))
    frozen = scores(results, BASELINE, max(size for _, size in results))
    if frozen is not None:
        title = (
            "a linear layer at the optimum of its loss (L2-regularised logistic regression fitted by L-BFGS), on a "
            "backbone that is not trained further"
        )
        table.append(row(title, f"mAP {frozen.mean():.1f}"))
    lost, low, high = (points(worth["half"][key]) for key in ("lost", "low", "high"))
    title = "what the model above loses with A switched off"
    table.append(row(title, f"{lost} points of validation mAP ({low} to {high})"))
    table += own_data_rows(Rows(measured / "photographs/own_data.json"))
    fill_page(page, {"photographs": table})


def models_table(measured: Mapping[str, Sequence[dict]]) -> list[str]:
    """Each bundled model and those beside it on the test split, with 95% intervals over the photographs."""
    table = header("model", "photographs", "mAP", "CF1", "OF1", "mAP of the bundled one above it")
    for title, (first, *others) in measured.items():
        for name, own in [(f"{title} (bundled)", first), *((one["model"], one) for one in others)]:
            above = "–" if own is first else interval(own, "below the first", "+")
            table.append(
                row(name, f"{own['photographs']:,}", *(interval(own, key) for key in ("mAP", "CF1", "OF1")), above)
            )
    return table


def interval(measured: Mapping[str, float], key: str, sign: str = "") -> str:
    """A value and its 95% interval in percent."""
    value, low, high = (100 * measured[name] for name in (key, f"{key} from", f"{key} to"))
    return f"{value:{sign}.1f} ({low:{sign}.1f} to {high:{sign}.1f})"


def heads_table(results: Runs, size: int) -> list[str]:
    """Every head that was run at a size, and what it gains over the linear optimum; the others by name."""
    arms = [arm for arm in ARMS if (arm.name, size) in results and not arm.shuffled]
    p_values = holm({arm.name: p_value(results, arm.name, BASELINE, size) for arm in arms if arm.name != BASELINE})
    table = header("head", "test mAP", "above the linear optimum", "p over the seeds (Holm)", "seeds")
    missing = []
    for arm in arms:
        found = scores(results, arm.name, size)
        if found is None:
            missing.append(arm.title)
            continue
        gain = "–" if arm.name == BASELINE else difference(results, arm.name, BASELINE, size)
        table.append(row(arm.title, mean_and_error(found), gain, p_values.get(arm.name, "–"), str(len(found))))
    return [*table, "", f"Not run at this size: {'; '.join(missing)}."] if missing else table


def summary_table(results: Runs, costs: Mapping[str, dict], sizes: Sequence[int]) -> list[str]:
    """The mAP of the heads that matter most, by size, beside their parameters and time."""
    table = header("head", *(f"{size:,} photographs" for size in sizes), "parameters, M", "forward, ms")
    for arm in (arm for name in SUMMARY for arm in ARMS if arm.name == name and costs.get(arm.cost_of or name)):
        found = [scores(results, arm.name, size) for size in sizes]
        cost = costs[arm.cost_of or arm.name]
        cells = [NOT_RUN if values is None else mean_and_error(values) for values in found]
        table.append(row(arm.title, *cells, f"{cost['parameters_M']:.3g}", f"{cost['forward_ms']:.3g}"))
    return table


def costs_table(costs: Mapping[str, dict]) -> list[str]:
    """Size, time and memory of every head that was measured."""
    keys = ("parameters_M", "forward_ms", "forward_backward_ms", "peak_MB")
    table = header("head", "parameters, M", "forward, ms", "training step, ms", "training step, MB")
    measured = [(arm, costs[arm.cost_of or arm.name]) for arm in ARMS if (arm.cost_of or arm.name) in costs]
    return table + [row(arm.title, *(f"{cost[key]:.3g}" for key in keys)) for arm, cost in measured if not arm.shuffled]


def causes_table(results: Runs, sizes: Sequence[int]) -> list[str]:
    """What is left of AM's gain over a linear layer that is trained like it."""
    rows = {
        "AM, no norm": lambda size: difference(results, "am", "linear", size),
        "A replaced by its mean over the images, after training": lambda size: difference(
            results, "am", "linear", size, "test_static"
        ),
        "A the same for all images, trained so": lambda size: difference(results, "am-static", "linear", size),
        "A frozen at ½": lambda size: difference(results, "am-half", "linear", size),
        "AM, θ=0.1: A flat": lambda size: difference(results, "am-theta", "linear", size),
        "AM with attention over attention": lambda size: difference(results, "am-attention", "attention", size),
        "the same, A frozen at ½": lambda size: difference(results, "half-attention", "attention", size),
        "labels shuffled: AM over linear, both trained on them": lambda size: difference(
            results, "am-shuffled", "linear-shuffled", size
        ),
        "labels shuffled: linear on them over linear on the real ones": lambda size: difference(
            results, "linear-shuffled", "linear", size
        ),
        "linear at its optimum": lambda size: difference(results, BASELINE, "linear", size),
    }
    table = header("mAP on test above the linear layer with AdamW", *[f"{size:,} photographs" for size in sizes])
    return table + [row(title, *[cell(size) for size in sizes]) for title, cell in rows.items()]


def association_table(results: Runs, sizes: Sequence[int]) -> list[str]:
    """What A is like where it was run, beside what the arm gains over the head without A."""
    table = header("head", "photographs", "gain over the head without A", "with the mean A", "sd of A",
                   "sd of the mean A over pairs", "sd over images", "Spearman's ρ [95%, mean over seeds]")  # fmt: skip
    for arm in (arm for arm in ARMS if arm.name in ASSOCIATIONS):
        for size in sizes:
            runs = results[arm.name, size].finished
            if runs is None:
                continue
            reference = arm.reference
            parts = [run["association"] for run in runs]
            means = [f"{np.mean([part[key] for part in parts]):.3f}" for key in ("std", "pair_std", "image_std")]
            cells = [difference(results, arm.name, reference, size, key) for key in ("test", "test_static")]
            table.append(row(arm.title, f"{size:,}", *cells, *means, correlation(parts)))
    return table


def correlation(parts: Sequence[dict]) -> str:
    """Mean over the seeds of Spearman's ρ and of the ends of its interval."""
    known = [part["spearman"] for part in parts if part["spearman"][0] is not None]
    if not known:
        return "–, A is flat"
    middle, low, high = np.mean(known, axis=0)
    return f"{middle:+.2f} [{low:+.2f}, {high:+.2f}]"


def settings_table(results: Runs, sizes: Sequence[int]) -> list[str]:
    """The chosen settings of the searches that are finished, and how far these went."""
    table = header("head", "photographs", "chosen on validation", "settings tried", "validation mAP of the tuning seed",
                   "further neighbours untried along")  # fmt: skip
    for arm in ARMS:
        for result in (results[arm.name, size] for size in sizes if (arm.name, size) in results):
            size = f"{result.scale.size:,}"
            if not result.finished:
                continue
            setting = zip(arm.start, result.best, strict=True)
            chosen = ", ".join(f"{AXIS_NAMES[axis]} {value:g}" for axis, value in setting)
            low, high = min(result.sweep.values()), max(result.sweep.values())
            cells = chosen, str(len(result.sweep)), f"{low:.2f} to {high:.2f}"
            table.append(row(arm.title, size, *cells, ", ".join(AXIS_NAMES[axis] for axis in result.at_edge) or "–"))
    return table


# Words of the names of heads, and their colours: perceptrons, with A, linear; what is left are the papers'.
KINDS = (("MLP", "#15703a"), ("AM", "#c2410c"), ("linear", "#1d4ed8"), ("", "#7e22ce"))
AXIS_NAMES = {"rate": "learning rate", "decay": "weight decay", "lam": "λ", "temperature": "temperature", "l2": "L2"}


def runs_table(results: Runs) -> list[str]:
    complete = [result for result in results.values() if result.finished]
    runs = [run for result in results.values() for run in result.runs.values()]
    on_gpu = [run for run in runs if "NVIDIA" in run.get("environment", {}).get("device", "")]
    minutes = [sum(run["seconds"] for run in some) / 60 for some in (runs, on_gpu)]
    line = (
        f"{len(complete)} of {len(results)} pairs of head and size are complete: {len(runs)} runs, "
        f"{minutes[0] - minutes[1]:.0f} core minutes, with pauses, beside other work"
    )
    return [line + (f", and {minutes[1]:.0f} minutes on a GPU, two runs at a time." if on_gpu else ".")]


def plot_frontier(results: Runs, costs: Mapping[str, dict], path: Path):
    """mAP against parameters, milliseconds and megabytes, a row of axes for each size; heads far below in words.

    A kind of head has a colour, and each of its heads a mark.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    sizes = sorted({size for (_, size), result in results.items() if result.finished})
    shown = sorted((arm for arm in ARMS if arm.cost_of is None or arm.name == BASELINE), key=_kind)
    marks = [sum(_kind(other) == _kind(arm) for other in shown[:place]) for place, arm in enumerate(shown)]
    drawn = {}
    figure = Figure(figsize=(13, 4.2 * max(1, len(sizes))), layout="constrained")
    quantities = {"parameters_M": "parameters, millions", "forward_ms": "forward of 16 photographs, ms",
                  "peak_MB": "training step of 16 photographs, MB"}  # fmt: skip
    grid = figure.subplots(max(1, len(sizes)), 3, squeeze=False, sharex="col", sharey="row")
    for size, axes_row in zip(sizes, grid, strict=False):
        baseline = scores(results, BASELINE, size)
        for axes, (key, title) in zip(axes_row, quantities.items(), strict=True):
            points, below = [], []
            for arm, mark in zip(shown, marks, strict=True):
                found = scores(results, arm.name, size)
                cost = costs.get(arm.cost_of or arm.name)
                if found is None or cost is None:
                    continue
                if baseline is not None and found.mean() < baseline.mean() - FAR_BELOW:
                    below.append(f"{arm.title}: {found.mean():.1f}")
                    continue
                points.append((cost[key], found.mean()))
                error = found.std(ddof=1) / len(found) ** 0.5
                style = {"fmt": "osD^vP<>*X"[mark % 10], "color": KINDS[_kind(arm)][1], "markersize": 7}
                drawn[arm.title] = axes.errorbar(cost[key], found.mean(), error, **style)
            best = [(x, y) for x, y in sorted(points) if all(y > other for place, other in points if place < x)]
            axes.plot(*zip(*best, strict=True) if best else ((), ()), color="0.7", linewidth=1, zorder=0)
            axes.set(xscale="log", xlabel=title)
            if below:
                axes.set_title("far below: " + ", ".join(below), loc="right", fontsize=8)
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.grid(alpha=0.3)
        axes_row[0].set_ylabel(f"test mAP, {size:,} training photographs")
    order = [arm.title for arm in shown if arm.title in drawn]
    if order:
        figure.legend([drawn[title] for title in order], order, loc="outside right upper", fontsize=9)
    figure.savefig(path, dpi=110)


def _kind(arm: Arm) -> int:
    """Which of `KINDS` a head is."""
    return next(place for place, (word, _) in enumerate(KINDS) if word in arm.title)


def plot_association(results: Runs, path: Path):
    """The gain of every run with A over its reference, against the spread of A and its agreement with co-occurrence."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.4), layout="constrained")
    spread, agreement = figure.subplots(1, 2, sharey=True)
    for number, arm in enumerate(arm for arm in ARMS if arm.name in ASSOCIATIONS):
        own = [result for (name, _), result in results.items() if name == arm.name]
        points = [point for result in own for point in gains(results, result)]
        for axes, key in ((spread, 1), (agreement, 2)):
            known = [(point[key], point[0]) for point in points if point[key] is not None]
            if known:
                style = {"markersize": 5, "alpha": 0.7, "label": arm.title}
                axes.plot(*zip(*known, strict=True), "osD^v<>P*"[number % 9], **style)
    spread.set(xlabel="standard deviation of the mean A over the pairs", ylabel="gain over the head without A, mAP")
    agreement.set(xlabel="Spearman's ρ of the mean A with co-occurrence")
    for axes in (spread, agreement):
        axes.axhline(0, color="0.6", linewidth=1)
        axes.grid(alpha=0.3)
    if spread.get_legend_handles_labels()[0]:
        figure.legend(*spread.get_legend_handles_labels(), loc="outside right center", fontsize=8)
    figure.savefig(path, dpi=110)


def gains(results: Runs, result: Results) -> list[tuple[float, float, float | None]]:
    """Gain, spread of the mean A and its agreement of each run of an arm."""
    size = result.scale.size
    pair = paired(results, result.arm.name, result.arm.reference, size)
    if pair is None:
        return []
    parts = [run["association"] for run in result.finished]
    rows = zip(pair[0] - pair[1], parts, strict=False)
    return [(float(gain), part["pair_std"], part["spearman"][0]) for gain, part in rows]
