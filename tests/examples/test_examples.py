"""The examples as they stand, on few images: other ways to train, whose models can be tagged with."""

import os
import sys

import pytest
from PIL import Image

from assocformer_hf import Tagger
from tests import forked
from tests.conftest import ROOT

# A smaller split is a part of a larger one: the example sees fewer of the same pictures.
OF_FEWER_SCENES = """
import runpy
import sys
from assocformer_hf.data.scenes.scenes import SPLIT_SIZES
SPLIT_SIZES.update(train=64, validation=100)
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(
    ("name", "printed"), [("transformers_trainer", "'eval_mAP': "), ("own_loop", "epoch 1  loss ")]
)
def test_what_an_example_trains_can_be_tagged_with(tmp_path, name, printed):
    command = [sys.executable, "-c", OF_FEWER_SCENES, str(ROOT / f"examples/{name}.py"), "--epochs", "1"]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
    done = forked.run([*command, "--train_images", "64", "--output", str(tmp_path / "model")], environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert printed in done.stdout
    (tagged,) = Tagger(tmp_path / "model")([Image.new("RGB", (80, 60), "gray")])
    assert tagged.labels
    assert tagged.all_scores.shape == (20,)
