"""Small sets of photographs: what is computed of them, and a table that pairs the seeds."""

import numpy as np
import pytest
from PIL import Image

from assocformer_hf import load_multilabel_dataset
from assocformer_hf.data.images.transforms import create_image_processor
from assocformer_hf.data.schema import label_names
from benchmarks.photographs_own_data import DECAYS, FROZEN, RECIPE, SETS, computed, own_data_rows, own_data_table


def rows_of(mAPs: dict[str, list[float]], name: str) -> list[dict]:
    return [
        {"set": name, "head": head, "seed": seed, "mAP": value}
        for head, values in mAPs.items()
        for seed, value in enumerate(values)
    ]


def test_the_table_pairs_the_seeds_and_leaves_out_heads_that_are_not_complete():
    linear = f"linear, head decay {DECAYS[0]}"
    rows = rows_of({RECIPE: [50.0, 60.0], linear: [48.0, 59.0], FROZEN: [70.0]}, SETS[1])
    table = own_data_table(rows)
    assert f"| {SETS[1]} | {RECIPE} | 2 | 55.00 ± 5.00 | – |" in table
    assert f"| {SETS[1]} | {linear} | 2 | 53.50 ± 5.50 | +1.50 ± 0.50 |" in table
    assert any(line.startswith(f"| {SETS[0]} | {RECIPE} | 0 | not run") for line in table)
    (line,) = own_data_rows(rows)
    assert "beside the best of 1 linear heads" in line
    assert "+1.50 ± 0.50 above it" in line


@pytest.fixture
def photographs(tmp_path):
    """Sixteen pictures, bright where they have the label."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    lines = ["file_name,labels"]
    for number in range(16):
        shade = 220 if number % 2 else 40
        Image.fromarray(np.full((16, 16, 3), shade + number, np.uint8)).save(folder / f"{number:02d}.png")
        lines.append(f"{number:02d}.png,{'bright' if number % 2 else 'dark'}")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return load_multilabel_dataset(folder, validation_share=0.25)["train"]


def test_what_is_computed_lies_beside_the_labels(photographs):
    brightness, labels = computed(lambda pixels: pixels.mean((1, 2, 3)), photographs, create_image_processor(32))
    bright = labels[:, label_names(photographs).index("bright")] == 1
    assert brightness[bright].min() > brightness[~bright].max()
    assert labels.sum(1).tolist() == [1] * len(photographs)
