"""Backbones from random weights: the search goes on while the best is at an edge, and a run is repeatable."""

import json

import pytest
import torch

from benchmarks.photographs_backbones import (
    ARMS,
    FILE,
    IMAGE_SIZE,
    RATES,
    SEEDS,
    TUNING_SEED,
    Results,
    Scale,
    Split,
    augmented,
    backbones_table,
    run,
)

SCALE = Scale(tuning_epochs=1, epochs=2)


@pytest.fixture(scope="module")
def splits() -> dict[str, Split]:
    generator = torch.Generator().manual_seed(0)

    def split(size: int) -> Split:
        pixels = torch.randint(256, (size, 3, IMAGE_SIZE, IMAGE_SIZE), generator=generator, dtype=torch.uint8)
        return Split(pixels, (torch.rand(size, 3, generator=generator) < 0.5).float())

    return {"train": split(40), "validation": split(16), "test": split(16)}


def test_a_run_is_repeatable_and_only_other_seeds_than_the_tuning_one_see_the_test_split(splits):
    am = ARMS[1]
    first, again = (run(am, 1e-3, 0, 1, splits, ["a", "b", "c"]) | {"seconds": 0} for _ in range(2))
    assert first == again
    assert 0 < first["test"] <= 100
    assert first["association_std"] > 0
    assert "test" not in run(ARMS[0], 1e-3, TUNING_SEED, 1, splits, ["a", "b", "c"])


def test_photographs_are_mirrored_and_shifted(splits):
    pixels = splits["train"].pixels
    changed = augmented(pixels, torch.Generator().manual_seed(1))
    assert changed.shape == pixels.shape
    middle = changed[:, :, 20:40, 20:40]
    as_it_is = pixels.unfold(2, 20, 1).unfold(3, 20, 1)
    mirrored = pixels.flip(3).unfold(2, 20, 1).unfold(3, 20, 1)
    found = [
        (whole == middle[:, :, None, None]).flatten(4).all(4).all(1).flatten(1).any(1) for whole in (as_it_is, mirrored)
    ]
    assert (found[0] | found[1]).all()
    assert found[0].any()
    assert found[1].any()


def test_the_search_ends_inside_and_the_runs_go_on_after_an_interruption(tmp_path):
    height = {1e-3: 10.0, 2e-3: 30.0, 4e-3: 20.0}  # the best is at an edge at first
    made = []
    while (wanted := (results := Results(tmp_path / FILE, SCALE)).next_run()) is not None:
        arm, rate, seed, epochs = wanted
        made.append((arm.name, rate, seed))
        record = {"arm": arm.name, "rate": rate, "seed": seed, "epochs": epochs, "validation": height.get(rate, 0.0)}
        if seed != TUNING_SEED:
            record |= {"test": height[rate] + seed, "association_std": 0.5}
        results.rows.add(record)
    assert len(set(made)) == len(made) == len(ARMS) * (len(RATES) + 1 + SEEDS)
    assert [rate for name, rate, seed in made if name == "cvt-am" and seed == TUNING_SEED] == [*RATES, 4e-3]
    assert {rate for _, rate, seed in made if seed != TUNING_SEED} == {2e-3}
    table = backbones_table(results)
    assert len(table) == 2 + len(ARMS)
    assert "| 31.00 ± 0.58 | +0.00 ± 0.00 | 0.500 |" in table[3]
    assert all(row["environment"]["threads"] for row in json.loads((tmp_path / FILE).read_text())["rows"])
    assert "not run" in backbones_table(Results(tmp_path / "none.json", SCALE))[2]
