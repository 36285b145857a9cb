"""The figures in the sentences of `docs/photographs.md`, from the runs of `benchmarks.photographs`."""

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.photographs_runs import ARMS, TUNING_SEED, Results
from benchmarks.photographs_statistics import BASELINE, Runs, difference, p_value, paired
from benchmarks.tables import NOT_RUN

DEEP = ("mlp", "mlp-64", "ml-decoder-256", "query2label-256", "add-gcn-256", "c-tran-256")
LOW = 1.0  # weight decay
SHORT = 3  # rounds of a search that ends too early


def figures(results: Runs, costs: Mapping[str, dict]) -> dict[str, str]:
    """What stands in the sentences, by its name, of the fewest and the most photographs; or that it was not run."""
    sizes = {size for _, size in results}
    small, large = min(sizes), max(sizes)
    gains = {
        "AM over linear": ("am", "linear"),
        "A learned": ("am-attention", "attention"),
        "A at ½": ("half-attention", "attention"),
        "Query2Label over MLP": ("query2label-256", "mlp"),
        "ML-Decoder over attention": ("ml-decoder-256", "attention"),
        "Query2Label over attention": ("query2label-256", "attention"),
    }
    found = {f"p: {name}": _p(results, *gains[name], large) for name in ("A learned", "A at ½")}
    found |= {name: difference(results, *arms, large).removeprefix("+") for name, arms in gains.items()}
    found["attention over linear"] = _span([_gain(results, "attention", "linear", size) for size in sizes])
    found["depth"] = _span([_gain(results, arm, BASELINE, large) for arm in DEEP])
    with_a = [arm.name for arm in ARMS if arm.head == "am" and arm.options.get("fusion") != "linear"]
    changes = [_gain(results, arm, arm, size, "test_static") for arm in with_a for size in sizes]
    found["mean A"] = _most([abs(change) for change in changes if change is not None], ".2f")
    found |= {f"decay at {size:,}": _decays(results, size) for size in (large, small)}
    found["low decay"] = _lost_at_low_decay(results, "ml-gcn", small)
    found["short search"] = _most([_left_lying(result) for result in results.values() if result.finished], ".1f")
    for name, arm, other in (
        ("MLP, ML-Decoder", "mlp", "ml-decoder-256"),
        ("attention, ML-Decoder", "attention", "ml-decoder-256"),
        ("attention, Query2Label", "attention", "query2label-256"),
    ):
        found[f"parameters: {name}"] = _ratio(costs, arm, other, "parameters_M", ".0%")
        found[f"time: {name}"] = _ratio(costs, arm, other, "forward_ms", ".0%")
    found["time: Query2Label, MLP"] = _ratio(costs, "query2label-256", "mlp", "forward_ms", ".0f")
    return found


def _p(results: Runs, arm: str, reference: str, size: int) -> str:
    """Of one comparison, not corrected for the others."""
    p = p_value(results, arm, reference, size)
    return NOT_RUN if p is None else f"{p:.3f}"


def _gain(results: Runs, arm: str, reference: str, size: int, key: str = "test") -> float | None:
    """Mean over the seeds; None where an arm is not complete."""
    pair = paired(results, arm, reference, size, key)
    return None if pair is None else float((pair[0] - pair[1]).mean())


def _decays(results: Runs, size: int) -> str:
    """Of the heads that are not other papers', on the real labels."""
    own = [arm for arm in ARMS if "decay" in arm.start and arm.head not in ("peer", "ml_gcn") and not arm.shuffled]
    complete = [(arm, results[arm.name, size]) for arm in own if (arm.name, size) in results]
    chosen = [result.best[list(arm.start).index("decay")] for arm, result in complete if result.finished]
    return _span(chosen, "g")


def _lost_at_low_decay(results: Runs, arm: str, size: int) -> str:
    """What mAP on validation is lost without the weight decays above `LOW`."""
    result = results.get((arm, size))
    if result is None or not result.finished:
        return NOT_RUN
    place = list(result.arm.start).index("decay")
    low = [value for point, value in result.sweep.items() if point[place] <= LOW]
    return f"{max(result.sweep.values()) - max(low):.1f}"


def _left_lying(result: Results) -> float:
    """What mAP on validation a search of few rounds misses."""
    early = [value for point, value in result.sweep.items() if result.runs[point, TUNING_SEED]["round"] <= SHORT]
    return max(result.sweep.values()) - max(early)


def _ratio(costs: Mapping[str, dict], arm: str, other: str, key: str, form: str) -> str:
    return f"{costs[arm][key] / costs[other][key]:{form}}" if costs.keys() >= {arm, other} else NOT_RUN


def _most(values: Sequence[float], form: str) -> str:
    return f"{max(values):{form}}" if values else NOT_RUN


def _span(values: Sequence[float | None], form: str = ".1f") -> str:
    known = [value for value in values if value is not None]
    return f"{np.min(known):{form}} to {np.max(known):{form}}" if known else NOT_RUN
