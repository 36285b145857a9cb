"""Make a Space of a model: `python examples/create_space.py --model org/name --folder outputs/space`."""

from dataclasses import dataclass, field
from pathlib import Path

from assocformer_hf.command_line import one_line_errors, parse_arguments
from assocformer_hf.hub.create_space import create_space
from assocformer_hf.hub.publish import publish_space


@dataclass
class Arguments:
    """What to show, and where."""

    model: str = field(metadata={"help": "Model on the Hub; a folder, for a Space on your own machine."})
    folder: Path = field(default=Path("outputs/space"), metadata={"help": "Folder to write."})
    title: str | None = field(default=None, metadata={"help": "Default: the model's name."})
    push_to_hub: bool = field(default=False, metadata={"help": "Publish the folder."})
    hub_space_id: str | None = field(default=None, metadata={"help": "Space: organization/name. Default: the model's."})
    hub_private_repo: bool | None = field(default=None, metadata={"help": "Whether a new Space is private."})


def main():
    (args,) = parse_arguments([Arguments])
    create_space(args.folder, args.model, args.title)
    print(f"MODEL_ID={args.model} python {args.folder / 'app.py'}")
    if args.push_to_hub:
        print(publish_space(args.folder, args.hub_space_id or args.model, args.hub_private_repo))


if __name__ == "__main__":
    with one_line_errors():
        main()
