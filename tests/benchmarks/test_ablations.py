"""The ablations: that a suite goes on where it stopped, and that its statistics and bounds are what they say."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from assocformer_hf.data.scenes.scenes import label_set_distribution
from assocformer_hf.interpretation.association_map import conditional_cooccurrence
from assocformer_hf.model.losses import association_penalty
from benchmarks.ablations_report import context_strength, rank_correlation
from benchmarks.ablations_runs import (
    LABELS,
    QUICK,
    Arm,
    Results,
    arms,
    create_model,
    draw_evidence,
    feature_oracle,
    run_arm,
    scale_of,
    with_exact_context,
)
from benchmarks.tables import holm
from tests import forked
from tests.conftest import ROOT, images

PAGE = ROOT / "docs/ablations.md"
WITHIN_COMMENTS = re.compile(r"<!-- (\w+) -->.*?<!-- /\1 -->", re.DOTALL)


@pytest.fixture(scope="module")
def of_one_arm(tmp_path_factory) -> Path:
    """The folder with the runs of the arm `equal`."""
    folder = tmp_path_factory.mktemp("ablations")
    run_arm(arms()[0], QUICK, folder)
    return folder


def test_a_suite_that_was_interrupted_goes_on_and_gives_the_same(of_one_arm, tmp_path):
    arm, path = arms()[0], tmp_path / "equal.jsonl"
    shutil.copyfile(of_one_arm / path.name, path)
    lines = path.read_text().splitlines()
    assert len(lines) == len(QUICK.rates) + QUICK.seeds
    path.write_text("\n".join(lines[:-1]) + "\n")
    run_arm(arm, QUICK, tmp_path)
    again = path.read_text().splitlines()
    assert again[:-1] == lines[:-1]
    before, after = json.loads(lines[-1]), json.loads(again[-1])
    assert before | {"seconds": 0} == after | {"seconds": 0}
    run_arm(arm, QUICK, tmp_path)
    assert path.read_text().splitlines() == again
    assert Results(Arm("equal", noise=50), QUICK, tmp_path).runs == {}


def test_the_command_fills_its_tables_from_its_runs_and_names_what_was_not_run(of_one_arm, tmp_path):
    """Of its two arms one has been run; the page is the published one."""
    chosen = ["equal", "linear"]
    shutil.copyfile(PAGE, tmp_path / "ablations.md")
    shutil.copyfile(of_one_arm / "equal.jsonl", tmp_path / "equal.jsonl")
    before = (tmp_path / "equal.jsonl").read_text()
    command = [sys.executable, "-m", "benchmarks.ablations", "--quick", "--output", str(tmp_path), "--arms", *chosen]
    done = forked.run([*command, "--workers", "1"], cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "equal.jsonl").read_text() == before
    page = (tmp_path / "ablations.md").read_text()
    runs = {name: Results(arm, QUICK, tmp_path).finished for arm in arms() if (name := arm.name) in chosen}
    mean = {name: np.mean([run["mAP"] for run in of_arm]) for name, of_arm in runs.items()}
    row = next(line for line in page.splitlines() if line.startswith("| CvT, tiny"))
    cells = [cell.strip() for cell in row.split("|")]
    assert cells[2].startswith(f"{mean['linear']:.2f} ±")
    assert cells[4].startswith(f"{mean['equal'] - mean['linear']:+.2f} ±")
    assert "| Swin, tiny | not run | not run | not run | not run |" in page
    # What stands around the tables is left alone.
    assert WITHIN_COMMENTS.sub("", page) == WITHIN_COMMENTS.sub("", PAGE.read_text())


@pytest.mark.slow
def test_the_whole_suite_in_quick(tmp_path):
    command = [sys.executable, "-m", "benchmarks.ablations", "--quick", "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert "not run" not in (tmp_path / "ablations.md").read_text()
    assert len(list((tmp_path / "images").glob("*.png"))) == 2


def test_names_are_unique_and_every_arm_has_its_scale():
    names = [arm.name for arm in arms()]
    assert len(set(names)) == len(names)
    assert all(scale_of(arm, quick=False).seeds >= 5 for arm in arms())


def test_the_oracle_is_the_posterior():
    evidence, targets = draw_evidence(2.0, 0.5, "validation", 4000, seed=0)
    posterior = with_exact_context((evidence - 0.5) / 0.5**2, coupling=2.0)
    # A posterior is calibrated: among the pairs of image and label with about that probability, as many are present.
    for low, high in ((0.05, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 0.95)):
        chosen = (posterior > low) & (posterior < high)
        error = np.sqrt(0.25 / chosen.sum())
        assert abs(targets[chosen].mean() - posterior[chosen].mean()) < 4 * error
    isolated, context = feature_oracle(2.0, 0.5, 3, 2000)
    assert np.mean(context) > np.mean(isolated) + 1


def test_context_is_stronger_where_labels_are_coupled():
    strengths = [context_strength(coupling) for coupling in (0.0, 1.0, 2.0, 3.0)]
    assert strengths == sorted(strengths)
    assert 0 < strengths[0] < strengths[-1] < 1


def test_holm_and_rank_correlation():
    # Three tests: 3 x 0.01; then 2 x 0.02, not below it; then 0.5.
    assert holm({"a": 0.5, "b": 0.02, "c": 0.01, "d": None}) == {
        "a": "0.500",
        "b": "0.040",
        "c": "0.030",
        "d": "not run",
    }
    random = np.random.default_rng(0).random((5, LABELS * (LABELS - 1) // 2))
    middle, low, high = rank_correlation(random)
    assert low < middle < high
    assert low < 0 < high

    label_sets, probabilities = label_set_distribution(1.0)
    chosen = np.random.default_rng(1).choice(len(label_sets), 200_000, p=probabilities)
    drawn = label_sets[chosen].astype(np.float64)
    given = conditional_cooccurrence(drawn.T @ drawn)
    together = np.broadcast_to(((given + given.T) / 2)[np.triu_indices(LABELS, 1)], random.shape)
    assert rank_correlation(together) == pytest.approx((1, 1, 1), abs=0.02)
    assert rank_correlation(-together) == pytest.approx((-1, -1, -1), abs=0.02)


@pytest.mark.parametrize("variant", ["offset", "off_diagonal"])
def test_variants_of_a_and_its_penalty(variant):
    torch.manual_seed(0)
    model = create_model(Arm("", variant=variant)).eval()
    pixels, labels = images(3, 32, 32), torch.zeros(3, LABELS)
    torch.manual_seed(0)
    plain = create_model(Arm("")).eval()
    before, expected = model(pixels, labels, output_association=True), plain(pixels, labels, output_association=True)
    torch.testing.assert_close(before.association, expected.association)
    torch.testing.assert_close(before.logits, expected.logits)
    a = before.association
    if variant == "offset":
        model.head.association.offset.data.fill_(-2.0)
        shifted = torch.sigmoid(torch.logit(a) - 2)
        torch.testing.assert_close(model(pixels, output_association=True).association, shifted, rtol=1e-4, atol=1e-5)
    else:
        without_diagonal = a * (1 - torch.eye(LABELS))
        torch.testing.assert_close(before.association_penalty, association_penalty(without_diagonal))
