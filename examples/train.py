"""Train AssocFormer: `accelerate launch examples/train.py`; see `--help`, the README and `examples/configs`."""

from accelerate import PartialState

from assocformer_hf import train
from assocformer_hf.command_line import one_line_errors, parse_arguments
from assocformer_hf.training.arguments import ARGUMENTS, default_recipe

if __name__ == "__main__":
    with one_line_errors():
        groups = parse_arguments(ARGUMENTS, default_recipe)
        train(groups[1].dataset, *groups)
        PartialState().destroy_process_group()
