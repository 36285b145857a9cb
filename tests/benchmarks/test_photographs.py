"""Heads on photographs: side by side they are trained as if alone, a suite goes on, its parts are what they say."""

import json
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from assocformer_hf import multilabel_metrics
from assocformer_hf.data.scenes.scenes import load_scenes
from benchmarks.peers import label_graph
from benchmarks.photographs import FOLDER, PAGE, require_features, write_pages
from benchmarks.photographs_features import Split, features_name
from benchmarks.photographs_heads import AM, InBfloat16
from benchmarks.photographs_report import README, write_report
from benchmarks.photographs_runs import ARMS, AXES, SCALES, Arm, Results, Scale, create_head, run_arm, shuffled_labels
from benchmarks.photographs_training import Schedule, average_precision, logistic_regression, mean_ap, predict, train
from tests.conftest import ROOT

SHARED = ROOT.parent / "shared"
CHANNELS, LABELS = 24, 6
SCALE = Scale(96, 2, batch=32, rounds=1, seeds=2)
ARM = {arm.name: arm for arm in ARMS}


def test_the_pages_say_what_the_results_say(tmp_path, capsys):
    originals = (PAGE, PAGE.with_stem("photographs_settings"), README)
    page, _, readme = copies = [shutil.copy(original, tmp_path / original.name) for original in originals]
    results = {(arm.name, scale.size): Results(arm, scale, FOLDER) for arm in ARMS for scale in SCALES}
    write_pages(results, FOLDER, page, readme)
    for copy, original in zip(copies, originals, strict=True):
        assert copy.read_text() == original.read_text(), "run python -m benchmarks.photographs --tables"
        assert not re.search(r"^\s*<!-- .* -->\S", original.read_text(), re.MULTILINE)  # its line would be no Markdown


@pytest.fixture(scope="module")
def splits() -> dict[str, Split]:
    """Maps whose means tell the labels, which go together, with noise."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(CHANNELS, LABELS, generator=generator)

    def split(size: int) -> Split:
        maps = torch.rand(size, 9, CHANNELS, generator=generator).half()
        pooled = maps.float().mean(1)
        shared = torch.randn(size, 1, generator=generator)
        evidence = (pooled - 0.5) @ weight + 0.3 * shared + 0.1 * torch.randn(size, LABELS, generator=generator)
        return Split(maps.numpy(), pooled, (evidence > 0).float())

    return {"train": split(200), "validation": split(80), "test": split(80)}


@pytest.mark.parametrize("name", ["linear", "am-theta", "attention", "am-attention", "mlp", "mean-max"])
def test_heads_trained_side_by_side_are_as_if_alone(splits, name):
    axes = ARM[name].start
    settings = [
        {axis: AXES[axis][AXES[axis].index(values[0]) + step] for axis, values in axes.items()} for step in (0, -1)
    ]

    def trained(chosen: list[dict]) -> tuple[list, np.ndarray]:
        training = splits["train"]
        heads = [create_head(ARM[name], CHANNELS, training.labels, setting, seed=1) for setting in chosen]
        rates, decays = [s["rate"] for s in chosen], [s["decay"] for s in chosen]
        curves = train(heads, rates, decays, training, torch.arange(96), splits["validation"], Schedule(2), 0, True)
        return curves, np.stack([predict([head], splits["test"], False)[0] for head in heads])

    curves, together = trained(settings)
    alone = [trained([setting]) for setting in settings]
    np.testing.assert_allclose(together, np.concatenate([logits for _, logits in alone]), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(curves, [curve for one, _ in alone for curve in one], atol=0.5)
    assert np.abs(together[0] - together[1]).max() > 1e-3


def test_an_interrupted_suite_goes_on_and_only_chosen_settings_see_the_test_split(splits, tmp_path):
    arm = ARM["am"]
    said = run_arm(arm, SCALE, splits, tmp_path)
    path = tmp_path / "am-96.jsonl"
    lines = path.read_text().splitlines()
    results = Results(arm, SCALE, tmp_path)
    assert len(lines) == 1 + 4 + SCALE.seeds  # the start, its neighbours, the runs of the best
    assert results.best == max(results.sweep, key=results.sweep.get)
    assert [run["seed"] for run in results.finished] == [0, 1]
    assert all(("test" in run) == (run["round"] is None) for run in map(json.loads, lines))
    assert all(run["environment"]["versions"]["torch"] for run in map(json.loads, lines))
    assert str(len(lines)) in said
    path.write_text("\n".join(lines[:-1]) + "\n")
    run_arm(arm, SCALE, splits, tmp_path)
    again = path.read_text().splitlines()
    assert again[:-1] == lines[:-1]
    assert json.loads(again[-1]) | {"seconds": 0} == json.loads(lines[-1]) | {"seconds": 0}
    run_arm(arm, SCALE, splits, tmp_path)
    assert path.read_text().splitlines() == again
    assert Results(replace(arm, options={"kernel_size": 5}), SCALE, tmp_path).runs == {}


def test_a_round_of_the_search_that_was_interrupted_is_finished_first(splits, tmp_path):
    arm = replace(ARM["linear"], batched=False)
    scale = replace(SCALE, rounds=2)
    run_arm(arm, scale, splits, tmp_path)
    path = tmp_path / "linear-96.jsonl"
    lines = path.read_text().splitlines()
    whole = [run["point"] for run in map(json.loads, lines)]
    path.write_text("\n".join(lines[:3]) + "\n")  # the start, and two of its four neighbours
    results = Results(arm, scale, tmp_path)
    number, missing = results.next_round()
    assert (number, len(missing), results.finished) == (1, 2, None)
    run_arm(arm, scale, splits, tmp_path)
    assert [run["point"] for run in map(json.loads, path.read_text().splitlines())] == whole


def test_results_of_other_photographs_are_not_mixed(tmp_path):
    require_features("these", tmp_path)
    require_features("these", tmp_path)
    with pytest.raises(ValueError, match="results of these, and these are others"):
        require_features("others", tmp_path)
    (tmp_path / "features.json").unlink()
    (tmp_path / "linear-1000.jsonl").touch()
    with pytest.raises(ValueError, match="results of unknown maps"):
        require_features("these", tmp_path)


def test_other_labels_and_another_backbone_are_other_features(tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_text(name)
    scenes = load_scenes("train", size=4)
    photographs = dict.fromkeys(("train", "validation", "test"), scenes)
    names = [features_name(photographs, tmp_path, 192), features_name(photographs, tmp_path, 224)]
    others = scenes.map(lambda row: {"labels": row["labels"][:-1]})
    names.append(features_name(photographs | {"test": others}, tmp_path, 192))
    (tmp_path / "config.json").write_text("another mean")
    names.append(features_name(photographs, tmp_path, 192))
    assert len(set(names)) == 4


def test_the_search_stops_where_no_neighbour_is_better(splits, tmp_path):
    arm = Arm("logistic", "", "logistic", start={"l2": (0.3,)})
    scale = replace(SCALE, rounds=None)
    run_arm(arm, scale, splits, tmp_path)
    results = Results(arm, scale, tmp_path)
    place = AXES["l2"].index(results.best[0])
    tried = {point[0] for point in results.sweep}
    assert {AXES["l2"][i] for i in (place - 1, place, place + 1) if 0 <= i < len(AXES["l2"])} <= tried
    assert results.at_edge == []
    assert len(tried) < len(AXES["l2"])
    start = Results(arm, replace(SCALE, size=97), tmp_path)
    assert (start.next_round(), start.finished) == ((0, [(0.3,)]), None)


def test_a_head_in_bfloat16_has_nearly_the_same_scores(splits):
    arm = ARM["ml-decoder-256"]
    head = create_head(arm, CHANNELS, splits["train"].labels, {"rate": 1e-3, "decay": 0.1}, seed=1)
    (exact,), (rounded,) = (predict([it], splits["test"], False) for it in (head, InBfloat16(head)))
    assert rounded.dtype == np.float32
    assert 0 < np.abs(rounded - exact).max() < 0.1 * exact.std()


def test_logistic_regression_ends_at_the_optimum(splits):
    split, photographs = splits["train"], torch.arange(150)
    for penalty, (head, _) in zip(
        (0.1, 0.01), logistic_regression(split, photographs, splits["validation"], (0.1, 0.01)), strict=True
    ):
        features, labels = split.pooled[photographs].double(), split.labels[photographs].double()
        wrong = torch.sigmoid(head.double()(features)[0]) - labels
        gradient = wrong.T @ features / len(features) + penalty * head.linear.weight
        assert gradient.abs().max() < 1e-3
        assert wrong.mean(0).abs().max() < 1e-3


@pytest.mark.parametrize(("association", "lam"), [("half", None), ("static", None), ("half", 1.0)])
def test_a_frozen_or_static_association_is_that_of_no_image(splits, association, lam):
    torch.manual_seed(0)
    head = AM(CHANNELS, LABELS, association=association, lam=lam)
    features = torch.from_numpy(splits["test"].maps[:5]).float() if head.on_maps else splits["test"].pooled[:5]
    pooled = features.mean(1) if head.on_maps else features
    a = head.head(pooled, whole=True).association
    assert (a - a[:1]).abs().max() == 0
    assert (a == 0.5).all() == (association == "half")
    torch.testing.assert_close(head(features)[0], head.with_association(features, a[0]))
    image = AM(CHANNELS, LABELS, lam=lam)
    image.load_state_dict(head.state_dict())
    own = image.head(pooled, whole=True).association
    assert own.std(0).max() > 1e-3
    each = [image.with_association(features[i : i + 1], own[i]) for i in range(5)]
    torch.testing.assert_close(image(features)[0], torch.cat(each))


def test_shuffled_labels_are_as_frequent_but_no_longer_go_together(splits):
    training, photographs = splits["train"], torch.arange(30, 200)
    shuffled = shuffled_labels(training, photographs, seed=3)
    assert torch.equal(shuffled[photographs].sum(0), training.labels[photographs].sum(0))
    assert torch.equal(shuffled[:30], training.labels[:30])

    def together(labels: torch.Tensor) -> float:
        """Mean correlation of two labels of an image, less what the features explain of each."""
        features = torch.cat([training.pooled[photographs], torch.ones(len(photographs), 1)], dim=1)
        left = labels[photographs] - features @ torch.linalg.lstsq(features, labels[photographs]).solution
        return torch.corrcoef(left.T)[torch.triu_indices(LABELS, LABELS, 1).unbind()].mean().item()

    assert together(training.labels) > 0.3
    assert abs(together(shuffled)) < 0.15


def test_average_precision_is_that_of_the_metrics():
    generator = np.random.default_rng(0)
    scores, targets = generator.random((300, 7)), (generator.random((300, 7)) < 0.2).astype(np.float32)
    assert average_precision(scores, targets).mean() == pytest.approx(multilabel_metrics(scores, targets)["mAP"])


def test_a_label_that_no_photograph_has_does_not_stop_a_run(splits):
    rare = splits["train"]._replace(labels=splits["train"].labels.clone())
    rare.labels[1:, 0] = 0  # in one fold at most
    assert shuffled_labels(rare, torch.arange(200), seed=0).sum(0).tolist() == rare.labels.sum(0).tolist()
    some = splits["test"]._replace(labels=splits["test"].labels.clone())
    some.labels[:, 2] = 0
    scores = np.random.default_rng(0).random(some.labels.shape)
    assert mean_ap(scores, some) == pytest.approx(100 * multilabel_metrics(scores, some.labels.numpy())["mAP"])


def test_the_label_graph_by_hand():
    # Label 1 comes with 0 always, 0 with 1 in one of three; 2 is alone.
    targets = torch.tensor([[1.0, 1, 0], [1, 0, 0], [1, 0, 0], [0, 0, 1]])
    degrees = torch.tensor([0.8, 1, 0.8])
    expected = torch.tensor([[0.8, 0, 0], [0.2, 0.8, 0], [0, 0, 0.8]]) / degrees.sqrt().outer(degrees.sqrt())
    torch.testing.assert_close(label_graph(targets), expected.T, rtol=1e-4, atol=1e-5)


def test_the_page_is_filled_from_the_runs_and_names_what_was_not_run(splits, tmp_path):
    for name in ("linear", "am", "logistic"):
        run_arm(ARM[name], SCALE, splits, tmp_path)
    # As with --quick: not all arms are there.
    results = {(arm.name, SCALE.size): Results(arm, SCALE, tmp_path) for arm in ARMS if arm.quick}
    page = tmp_path / "photographs.md"
    write_report(results, {}, page)
    text = page.read_text()
    means = {name: np.mean([run["test"] for run in results[name, 96].finished]) for name in ("linear", "am")}
    assert f"| linear | {means['linear']:.2f} ±" in text
    assert f"| AM, no norm | {means['am'] - means['linear']:+.2f} ±" in text
    assert "| A frozen at ½ | not run |" in text
    assert {path.name for path in (tmp_path / "images").iterdir()} == {
        "photographs_frontier.png",
        "photographs_association.png",
    }


@pytest.mark.slow
def test_quick_on_real_photographs(tmp_path):
    if not SHARED.exists():
        pytest.skip("needs ../shared/data/mirflickr25k-128 and ../shared/weights")
    command = [sys.executable, "-m", "benchmarks.photographs", "--quick", "--output", str(tmp_path / "results")]
    command += ["--dataset", str(SHARED / "data/mirflickr25k-128"), "--cache", str(tmp_path / "cache")]
    command += ["--backbone", str(SHARED / "weights/tf_efficientnet_lite0.in1k")]
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    print(f"{time.perf_counter() - started:.0f} s")
    assert done.returncode == 0, done.stderr
    assert "not run" not in (tmp_path / "results/photographs.md").read_text()
    (folder,) = (tmp_path / "cache").iterdir()
    assert np.load(folder / "test.npy").shape == (400, 36, 1280)
