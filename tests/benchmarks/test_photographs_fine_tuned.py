"""The bundled model's training with other seeds: a run goes on, and its table pairs the seeds."""

import datasets

from assocformer_hf.data.scenes.scenes import load_scenes
from benchmarks.photographs_fine_tuned import (
    KEYS,
    fine_tuned_table,
    run,
    search_head,
    search_table,
    seeds_rows,
    with_seed_0,
)


def test_a_run_is_measured_on_test_and_not_trained_twice(tmp_path, capsys):
    parts = {"train": load_scenes("train", size=48), "validation": load_scenes("validation", size=48)}
    halves = parts["validation"].train_test_split(24, shuffle=False)
    splits = datasets.DatasetDict(train=parts["train"], validation=halves["train"], test=halves["test"])
    splits.save_to_disk(tmp_path / "scenes")
    where = str(tmp_path / "scenes"), "tiny-cvt", tmp_path / "run"
    first = run("linear", 1, *where, image_size=64, epochs=1, batch_size=16)
    assert {"validation mAP", *KEYS} <= first.keys()
    assert all(0 < first[key] < 1 for key in KEYS)
    capsys.readouterr()
    again = run("linear", 1, *where, image_size=64, epochs=1, batch_size=16)
    assert "resumed after epoch 1 of 1" in capsys.readouterr().out
    assert again == first
    point = {"learning_rate": 2e-3}
    searched = search_head(point, *where[:2], tmp_path / "search", image_size=64, epochs=1, batch_size=16)
    assert searched["setting"] == point
    assert not {*KEYS} & searched.keys(), "a search never sees the test split"
    assert searched["validation mAP"] != first["validation mAP"]


def test_the_search_shows_the_best_first():
    searched = [{"setting": {"head_weight_decay": 10.0}, "validation mAP": mean_ap} for mean_ap in (0.71, 0.69)]
    table = search_table(searched, {"linear": {1: {"validation mAP": 0.7}}})
    assert table[2:] == [
        "| 0.0005 | 0.00015 | 10 | 71.00 |  |",
        "| 0.0005 | 0.00015 | 3 | 70.00 | the recipe's |",
        "| 0.0005 | 0.00015 | 10 | 69.00 |  |",
    ]


def test_the_table_pairs_the_seeds():
    rows = [
        {"head": head, "seed": seed, "CF1": 0.7, "OF1": 0.7, "mAP": 0.7 + 0.01 * seed + gain}
        for seed in (1, 2)
        for head, gain in (("am", 0.005), ("linear", 0.0))
    ]
    bundled = [{"mAP": 0.7 + gain, "CF1": 0.7, "OF1": 0.7} for gain in (0.008, 0.0)]
    runs = with_seed_0(rows, bundled)
    table = fine_tuned_table(runs)
    assert "| 3 | 71.60 ± 0.49 |" in table[2]
    assert table[3].endswith("| +0.60 ± 0.10 |")
    assert len(table) == 4, "a head without a run has no row"
    (line,) = seeds_rows(runs)
    assert "its head beside a linear head, 3 seeds" in line
    one_more = with_seed_0([*rows, {**rows[1], "head": "linear-attention", "mAP": 0.711}], bundled)
    assert fine_tuned_table(one_more)[4].endswith("| 1 | 71.10 | 70.00 | 70.00 | +0.40 |")
    assert (
        seeds_rows(one_more)[1]
        == "| its head beside a linear head with attention, 1 seed | mAP 71.50 and 71.10: +0.40 |"
    )
    assert "+0.65 ± 0.15" in seeds_rows(with_seed_0(rows[:2], bundled))[0]
