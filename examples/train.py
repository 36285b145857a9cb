"""Train AssocFormer: `accelerate launch examples/train.py`, which is `accelerate launch -m assocformer_hf train`."""

import sys

from assocformer_hf.commands.main import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
