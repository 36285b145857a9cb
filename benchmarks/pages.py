"""All tables and plots of results in the README and the documentation: `python -m benchmarks.pages`."""

import json
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from benchmarks import ablations, photographs, versions
from benchmarks.measure import RESULTS
from benchmarks.tables import NOT_RUN, fill_page, header, row
from benchmarks.tasks import run
from model_cards import write_cards

ROOT = Path(__file__).parent.parent
PICTURES, PICTURE_BYTES = 1e9, 1e5
CORES = 2  # that the runtimes were measured on
PRICE = 0.04  # of a core hour, in some currency
NO_PEERS = ("AssocFormer", "AssocFormer, literal convolutions", "linear")


def write_pages(root: Path = ROOT, results: Path = RESULTS):
    """Fills the tables of the pages below a folder; one whose results are missing says so."""
    for page, tables in TABLES.items():
        filled = {}
        for name, (table, *files) in tables.items():
            filled[name] = list(table(*(part for file in files for part in read(results, file))))
        fill_page(root / page, filled)


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


def beside_other_heads(
    at_80: Sequence[dict], _: str, by_labels: Sequence[dict], __: str,
    gpu_at_80: Sequence[dict], ___: str, gpu_by_labels: Sequence[dict], ____: str,
) -> Iterable[str]:  # fmt: skip
    """Other label-correlation heads over ours, and ours beside ML-Decoder's by the number of labels; of both passes."""
    yield from header("the head's time, forward and backward", "one CPU thread", "a GPU")
    yield row("at 80 labels, other label-correlation heads over ours", *map(_range_of_peers, (at_80, gpu_at_80)))
    yield row("ours beside ML-Decoder's", *map(_where_longer, (by_labels, gpu_by_labels)))


def _range_of_peers(rows: Sequence[dict]) -> str:
    ratios = [one["forward_backward_over_ours"] for one in rows if one["head"] not in NO_PEERS]
    return f"{times(min(ratios))} to {times(max(ratios))}" if ratios else NOT_RUN


def _where_longer(rows: Sequence[dict]) -> str:
    parts = [(one["labels"], one["forward_backward_over_ml_decoder"]) for one in rows]
    shorter, longer = ([labels for labels, ratio in parts if (ratio < 1) == below] for below in (True, False))
    return f"shorter up to {shorter[-1]:,} labels, longer at {longer[0]:,}" if shorter and longer else NOT_RUN


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


def gpu_models(eager: Sequence[dict], ran: str, other: Sequence[dict], _: str, name: str) -> Iterable[str]:
    """Images a second and memory of whole models, as they are and run in another way, where both were measured."""
    yield from titled(ran, "model", "", "batch", "images a second", name, "peak memory", name)
    others = {(one["model"], one["what"], one["batch"]): one for one in other}
    for one in eager:
        if (beside := others.get((one["model"], one["what"], one["batch"]))) is not None:
            rates = (_if_it_fits(it["images_per_second"], ".0f") for it in (one, beside))
            memory = (_if_it_fits(it["peak_GiB"], ".1f", " GiB") for it in (one, beside))
            yield row(one["model"], one["what"], str(one["batch"]), *rates, *memory)


def _if_it_fits(value: float | None, form: str, unit: str = "") -> str:
    return "out of memory" if value is None else f"{value:{form}}{unit}"


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


def billion(rows: Sequence[dict], ran: str) -> Iterable[str]:
    """What a billion pictures would take in each runtime, by arithmetic on its rate on two cores."""
    yield from titled(
        ran, "runtime", "pictures a second and core", "core hours", "hours on 100 cores", "GB a second that these read",
        "cost",
    )  # fmt: skip
    for one in rows:
        if not one["tags_images_per_second"]:
            continue
        rate = one["tags_images_per_second"] / CORES
        hours = PICTURES / rate / 3600
        read_per_second = 100 * rate * PICTURE_BYTES / 1e9
        yield row(
            one["runtime"], f"{rate:.0f}", f"{hours:,.0f}", f"{hours / 100:.0f}", f"{read_per_second:.1f}",
            f"{hours * PRICE:.0f}",
        )  # fmt: skip


def peers(rows: Sequence[dict], ran: str) -> Iterable[str]:
    """A table of all backbones."""
    yield from titled(
        ran, "backbone", "", "trained a second", "our speed ÷ its speed", "evaluated a second", "our speed ÷ its speed",
        "first step", "whole training", "peak memory", "mAP",
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


def time_and_memory(rows: Sequence[dict], ran: str) -> Iterable[str]:
    """Those of one side over the other's."""
    yield from titled(ran, "what", "time", "memory")
    for one in rows:
        yield row(one["what"], times(one["time_ratio"]), times(one["memory_ratio"]))


def onnx(rows: Sequence[dict], ran: str, accuracies: Sequence[dict], _: str) -> Iterable[str]:
    """Speed and differences of Swin-T, and the mAP of the bundled model of drawn scenes, by what runs them."""
    yield from titled(ran, "", "speed over torch", "largest difference of a logit", "mAP on scenes")
    mean_ap_of = {one["what"].rpartition(", ")[2]: one["mAP"] for one in accuracies}
    for one in rows:
        form = one["what"].rpartition(", ")[2]
        mean_ap = f"{100 * mean_ap_of[form]:.1f}" if form in mean_ap_of else NOT_RUN
        yield row(form, times(one["speed_over_torch"]), f"{one['largest_difference_of_logits']:.1e}", mean_ap)


def metrics(rows: Sequence[dict], ran: str, large: Sequence[dict], _: str) -> Iterable[str]:
    """Metrics over their peers, and of more than the memory holds."""
    yield from titled(ran, "what", "time", "memory", "values")
    for one in rows:
        apart = f"{one['difference']:.0e} apart" if one["difference"] else "equal"
        yield row(one["what"], times(one["time_ratio"]), "", apart)
    for one in large:
        what = f"{one['what']}, {one['GB_on_disk']:.0f} GB"
        yield row(what, f"{one['seconds']:.0f} s", f"{one['peak_MiB']:.0f} MiB beyond them", "")


def thresholds(rows: Sequence[dict], ran: str) -> Iterable[str]:
    """Decisions on images that did not choose the thresholds, and the calibration error."""
    columns = ("CF1", "OF1", "OP", "OR")
    yield from titled(ran, "options", *columns, "calibration error")
    for one in rows:
        yield row(one["options"], *(f"{100 * one[name]:.1f}" for name in columns), f"{one['ECE']:.4f}")


def training(rows: Sequence[dict], ran: str) -> Iterable[str]:
    """What training costs beside the backbone."""
    yield from titled(ran, "what", "ratio", "target")
    for one in rows:
        yield row(one["what"], f"{one['ratio']:.3g}", f"{one['target']:g}")


def tagging(rows: Sequence[dict], ran: str, memory: Sequence[dict], _: str) -> Iterable[str]:
    """Images a second beside the pipeline, and the memory over the run."""
    yield from titled(ran, "", "images per second, best of two", "our speed ÷ its speed, median")
    for one in rows:
        yield row(one["what"], f"{one['images_per_second']:.0f}", times(one["ours_over_it"]))
    if memory:
        peaks = ", ".join(f"{one['peak_MiB']:,}" for one in memory)
        yield from (
            "",
            f"Memory of all processes of `predict` together, at most, in each tenth of the run: {peaks} MiB.",
        )


def serving(rows: Sequence[dict], ran: str) -> Iterable[str]:
    """How long answers take, and the memory of the process."""
    yield from titled(ran, "what", "p50", "p95", "memory before", "after")
    for one in rows:
        spent = (f"{one[key]:.0f} ms" for key in ("p50_ms", "p95_ms"))
        yield row(one["what"], *spent, *(f"{one[key]:,.0f} MiB" for key in ("MiB_before", "MiB_after")))


def recipes(rows: Sequence[dict], ran: str) -> Iterable[str]:
    """What the recipes to try the package with come to."""
    yield from titled(ran, "what", "command", "measured")
    percent = ("mAP", "chance", "CF1", "OF1")
    for one in rows:
        found = [
            f"{name} {100 * value:.1f}" if name.split()[0] in percent else f"{name} {value:.2g}"
            for name, value in one["found"].items()
            if name not in ("least", "most")
        ]
        if "least" in one["found"]:
            found.append("95% interval {least:.2f} to {most:.2f}".format(**one["found"]))
        yield row(one["what"], f"`{one['command']}`", ", ".join(found))


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


TABLES = {
    "README.md": {"head": (beside_other_heads, "heads", "large_label_sets", "gpu_heads", "gpu_large_label_sets")},
    "docs/benchmarks.md": {
        "heads": (heads, "heads"),
        "low rank": (low_rank, "low_rank"),
        "label sets": (label_sets, "large_label_sets"),
        "tagging": (tagging, "tagging", "tagging_memory"),
        "runtimes": (runtimes, "runtimes"),
        "peers": (peers, "training_peers"),
        "peers quick": (peers, "training_peers_quick"),
        "growth": (growth, "growth"),
        "imports": (imports, "imports"),
        "losses": (time_and_memory, "losses"),
        "metrics": (metrics, "metrics", "metrics_open_images"),
        "training": (training, "training"),
        "gpu heads": (heads, "gpu_heads"),
        "gpu low rank": (low_rank, "gpu_low_rank"),
        "gpu label sets": (label_sets, "gpu_large_label_sets"),
        "gpu models": (partial(gpu_models, name="channels-last"), "gpu_models_eager", "gpu_models_channels_last"),
        "gpu compiled": (partial(gpu_models, name="compiled"), "gpu_models_eager", "gpu_models_compiled"),
    },
    "docs/interpretation.md": {"thresholds": (thresholds, "thresholds")},
    "docs/hub.md": {"serving": (serving, "serving")},
    "docs/scale.md": {"billion": (billion, "runtimes")},
    "docs/measured.md": {"recipes": (recipes, "recipes")},
    "docs/transformers.md": {"cvt": (time_and_memory, "cvt"), "onnx": (onnx, "onnx_speed", "onnx_accuracy")},
}


def main():
    """Fills every page."""
    write_pages()
    for module in (photographs, ablations, versions, run, write_cards):
        module.write_page()


if __name__ == "__main__":
    main()
