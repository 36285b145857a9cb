"""`assocformer train`."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter

from assocformer_hf.commands.options import group
from assocformer_hf.data.readers.options import SourceOptions
from assocformer_hf.training.arguments import (
    DataArguments,
    HubArguments,
    ModelArguments,
    RecipeArguments,
)


@dataclass
class RunOptions(RecipeArguments):
    """How the weights are trained."""

    output_dir: Annotated[str, Parameter(name=("--output", "--output_dir"))] = field(
        default=RecipeArguments.output_dir, metadata={"help": "Folder of the trained model."}
    )


def train(
    *,
    data: group(DataArguments, "Data", 1) = None,
    source: group(SourceOptions, "How the data are read", 2) = None,
    model: group(ModelArguments, "Model", 3) = None,
    run: group(RunOptions, "Training", 4) = None,
    hub: group(HubArguments, "Hub", 5) = None,
    config: Annotated[
        Path | None,
        Parameter(
            group=Group("Options from a file", sort_key=6),
            help="A YAML file of options, such as the options.yaml beside a trained model, or a recipe that comes with "
            "the package: paper, photographs, scenes and others. The command line overrides it. Default: scenes, or, "
            "for coco and voc, paper, or, for data of your own, photographs.",
        ),
    ] = None,
) -> None:
    """Train a model, and leave its best weights as a complete model folder.

    The defaults shown are the paper's. The recipe of the data replaces them, see --config: for your own a small
    pretrained backbone at 224 pixels, for scenes a tiny one from random weights at 64.
    """
    from accelerate import PartialState

    from assocformer_hf.commands.running import quoted, say_next
    from assocformer_hf.training.train import train as train_model

    others = source or SourceOptions(), model or ModelArguments(), run or RunOptions(), hub or HubArguments()
    options: dict[str, Any] = {}
    for given in (data or DataArguments(), *others):  # all of them: the recipe is beneath what is given already
        options |= asdict(given)
    train_model(**options)
    PartialState().destroy_process_group()
    say_next(f"assocformer predict --model {quoted(options['output_dir'])} --images FILES_OR_FOLDERS")
