"""How long the package takes to import beyond what it is built on.

`python -m benchmarks.imports`: processes in turn, processor time. torch, torchvision and the base classes of a model
and of an image processor in transformers come first, as every model of transformers needs them; what an import adds to
these is the package's own, timm, and what it uses of other libraries.
"""

import os
import subprocess
import sys
from statistics import median

from benchmarks.measure import report

BASE = "import torch, torchvision; from transformers import AutoModel, PreTrainedModel, ViTImageProcessor"
OURS = (
    "import assocformer_hf",
    "from assocformer_hf import AssocFormerForMultiLabel",
    "from assocformer_hf import Tagger",
    "from assocformer_hf import load_multilabel_dataset",
    "from assocformer_hf import train",
)
CODE = """
import time
started = time.process_time()
{base}
between = time.process_time()
{statement}
print(between - started, time.process_time() - between)
"""


def seconds(statement: str) -> tuple[float, float]:
    """Of the base, and of a statement after it."""
    code = CODE.format(base=BASE, statement=statement)
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    base, own = map(float, done.stdout.split())
    return base, own


def main(rounds: int = 3):
    found = {statement: [] for statement in OURS}
    for _ in range(rounds):
        for statement in OURS:
            found[statement].append(seconds(statement))
    base = [pair[0] for pairs in found.values() for pair in pairs]
    rows = [{"import": BASE, "seconds": median(base), "least": min(base), "most": max(base)}]
    for statement, pairs in found.items():
        own = [pair[1] for pair in pairs]
        rows.append({"import": statement, "seconds": median(own), "least": min(own), "most": max(own)})
    report("imports", rows, "python -m benchmarks.imports")


if __name__ == "__main__":
    main()
