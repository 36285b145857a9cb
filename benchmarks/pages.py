"""The tables of docs/benchmarks.md, and a row of the README, from the results: `python -m benchmarks.pages`."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.measure import RESULTS
from benchmarks.tables import NOT_RUN, fill_page, header, row

README = Path(__file__).parent.parent / "README.md"
PAGE = README.parent / "docs/benchmarks.md"
NO_PEERS = ("AssocFormer", "AssocFormer, literal convolutions", "linear")


def write_pages(page: Path = PAGE, readme: Path = README, results: Path = RESULTS):
    """Fills the tables of the page, and that of the README; one whose results are missing says so."""
    tables = {
        "heads": heads(*read(results, "heads")),
        "low rank": low_rank(*read(results, "low_rank")),
        "label sets": label_sets(*read(results, "large_label_sets")),
        "runtimes": runtimes(*read(results, "runtimes")),
        "peers": peers(*read(results, "training_peers")),
        "peers quick": peers(*read(results, "training_peers_quick")),
        "growth": growth(*read(results, "growth")),
        "imports": imports(*read(results, "imports")),
    }
    fill_page(page, {name: list(lines) for name, lines in tables.items()})
    beside = beside_other_heads(read(results, "heads")[0], read(results, "large_label_sets")[0])
    fill_page(readme, {"head": [*header("the head's time, forward and backward", "measured"), *beside]})


def read(results: Path, name: str) -> tuple[list[dict], str]:
    """The rows of a benchmark and a line on what they ran on; no rows where it did not run."""
    file = results / f"{name}.json"
    if not file.is_file():
        return [], NOT_RUN
    content = json.loads(file.read_text(encoding="utf-8"))
    ran = content["environment"]
    threads = f"{ran['threads']} thread" + "s" * (ran["threads"] > 1)
    return content["rows"], f"{ran['device']}, {threads}, torch {ran['versions']['torch']}, {ran['date']}."


def heads(rows: Sequence[dict], ran: str) -> Iterable[str]:
    """Each head's time over ours."""
    yield from titled(ran, "head", "parameters", "forward", "forward + backward")
    for one in rows:
        ratios = (times(one[key]) for key in ("forward_over_ours", "forward_backward_over_ours"))
        yield row(one["head"], f"{one['parameters_M']:.3g} M", *ratios)


def beside_other_heads(at_80: Sequence[dict], by_labels: Sequence[dict]) -> Iterable[str]:
    """The range over the other label-correlation heads, and ML-Decoder's by the number of labels; of both passes."""
    ratios = [one["forward_backward_over_ours"] for one in at_80 if one["head"] not in NO_PEERS]
    found = f"{min(ratios):.1f} to {max(ratios):,.0f} times faster" if ratios else NOT_RUN
    yield row("at 80 labels, beside other label-correlation heads", found)
    parts = [(one["labels"], one["forward_backward_over_ml_decoder"]) for one in by_labels]
    shorter, longer = ([labels for labels, ratio in parts if (ratio < 1) == below] for below in (True, False))
    found = f"shorter up to {shorter[-1]:,} labels, longer at {longer[0]:,}" if shorter and longer else NOT_RUN
    yield row("beside ML-Decoder's", found)


def low_rank(rows: Sequence[dict], ran: str) -> Iterable[str]:
    """The convolutions over the low-rank form."""
    yield from titled(ran, "from the pooled feature, 80 labels", "the convolutions' time over ours", "ours")
    for one in rows:
        ours = f"{one['literal_ms'] / one['literal_over_low_rank']:.2f} ms"
        yield row(one["what"].replace("+", " + "), times(one["literal_over_low_rank"]), ours)


def label_sets(rows: Sequence[dict], ran: str) -> Iterable[str]:
    """Time over the floor, and memory."""
    yield from titled(
        ran, "labels", "forward", "forward + backward", "forward over its floor", "forward + backward over theirs",
        "compiled: forward", "compiled: both", "forward over ML-Decoder", "peak memory, with gradients",
    )  # fmt: skip
    for one in rows:
        yield row(
            f"{one['labels']:,}", milliseconds(one["forward_s"]), milliseconds(one["forward_backward_s"]),
            *(times(one.get(f"{kind}_over_floor")) for kind in (
                "forward", "forward_backward", "fused_forward", "fused_forward_backward",
            )),
            times(one["forward_over_ml_decoder"]), f"{one['peak_MiB']:.0f} MiB",
        )  # fmt: skip


def runtimes(rows: Sequence[dict], ran: str) -> Iterable[str]:
    """Images a second, over torch, and what it does to the labels."""
    yield from titled(
        ran, "runtime", "tagged a second", "over torch", "model alone, a second", "over torch", "mAP", "equal decisions"
    )
    for one in rows:
        parts = []
        for part in ("tags", "model"):
            rate = one[f"{part}_images_per_second"]
            parts += [NOT_RUN, NOT_RUN] if rate is None else [f"{rate:.0f}", spread(one[f"{part}_over_torch"], "×")]
        agreed = ["", ""] if one["mAP"] is None else [f"{one['mAP']:.2f}", f"{100 * one['equal_decisions']:.2f}%"]
        yield row(one["runtime"], *parts, *agreed)


def peers(rows: Sequence[dict], ran: str) -> Iterable[str]:
    """A table of all backbones."""
    yield from titled(
        ran, "backbone", "", "trained a second", "ours over it", "evaluated a second", "ours over it", "first step",
        "whole training", "peak memory", "mAP",
    )  # fmt: skip
    for one in rows:
        yield row(
            one["backbone"], one["peer"], f"{one['training_images_per_second']:.1f}",
            spread(one["ours_over_it_training"], "×"), f"{one['evaluation_images_per_second']:.1f}",
            spread(one["ours_over_it_evaluation"], "×"), f"{one['seconds_to_first_step']:.0f} s",
            f"{one['seconds_of_training']:.0f} s", f"{one['peak_MiB']:.0f} MiB", spread(one["mAP"]),
        )  # fmt: skip


def growth(rows: Sequence[dict], ran: str) -> Iterable[str]:
    """Time and memory at the largest size, and the slope."""
    if rows:
        yield from ("", "![Time and memory by images and by labels](../benchmarks/results/growth.png)")
    yield from titled(ran, "what", "by", "slope", "largest size", "processor time", "memory beyond the inputs")
    largest = {(one["by"], one["what"]): one for one in rows}
    for (by, what), one in largest.items():
        exponent = "" if one["slope"] is None else f"{one['slope']:.2f}"
        yield row(what, by, exponent, f"{one['size']:,}", f"{one['seconds']:.3g} s", f"{one['MiB']:.0f} MiB")


def imports(rows: Sequence[dict], ran: str) -> Iterable[str]:
    """Processor seconds of an import."""
    yield from titled(ran, "import", "processor time", "least to most")
    for one in rows:
        yield row(f"`{one['import']}`", f"{one['seconds']:.2f} s", f"{one['least']:.2f} to {one['most']:.2f}")


def titled(ran: str, *titles: str) -> list[str]:
    """What a table ran on, and its head."""
    return ["", ran[0].upper() + ran[1:], "", *header(*titles)] if ran != NOT_RUN else ["", f"**{NOT_RUN}**"]


def times(ratio: float | None) -> str:
    """A ratio with three digits."""
    if ratio is None:
        return NOT_RUN
    return f"{ratio:,.0f}×" if ratio >= 100 else f"{ratio:.3g}×" if ratio < 10 else f"{ratio:.1f}×"


def milliseconds(seconds: float) -> str:
    """Three digits or whole numbers."""
    return f"{1e3 * seconds:,.0f} ms" if seconds >= 0.1 else f"{1e3 * seconds:.3g} ms"


def spread(values: Sequence[float], sign: str = "") -> str:
    """The median, and the least and largest in brackets."""
    low, middle, high = (f"{value:.3g}" for value in values)
    return f"{middle}{sign}" if low == high else f"{middle}{sign} ({low} to {high})"


if __name__ == "__main__":
    write_pages()
