"""Checkpoints by age."""

import json

from assocformer_hf.training.checkpoint import FORMAT, STATE_FILE, checkpoints


def test_the_newest_is_the_last_however_long_its_number(tmp_path):
    names = ["epoch-0000-batch-999500", "epoch-0000-batch-1000000", "epoch-0001", "epoch-9999", "epoch-10000"]
    for name in reversed(names):
        (tmp_path / name).mkdir()
        (tmp_path / name / STATE_FILE).write_text(json.dumps({"format": FORMAT, "files": {}}))
    (tmp_path / "epoch-of-another").mkdir()
    assert [path.name for path in checkpoints(tmp_path)] == names
