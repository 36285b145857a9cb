"""Publish a model folder: `python examples/push_to_hub.py --folder outputs/assocformer --hub_model_id org/name`."""

from dataclasses import dataclass, field
from pathlib import Path

from assocformer_hf.command_line import one_line_errors, parse_arguments
from assocformer_hf.data.images.decoding import decode_image
from assocformer_hf.hub.model_folder import add_sample_images
from assocformer_hf.hub.publish import check_model_folder, publish_folder


@dataclass
class Arguments:
    """What to publish, and where."""

    folder: Path = field(metadata={"help": "Folder that examples/train.py wrote."})
    hub_model_id: str = field(metadata={"help": "Repository: organization/name."})
    hub_private_repo: bool | None = field(default=None, metadata={"help": "Whether a new repository is private."})
    sample_images: list[Path] = field(
        default_factory=list, metadata={"help": "Images to try the model with on its page; whoever sees it sees them."}
    )
    message: str | None = field(default=None, metadata={"help": "Message of the commit."})
    dry_run: bool = field(default=False, metadata={"help": "Check the folder and list what would be sent."})


def main():
    (args,) = parse_arguments([Arguments])
    if args.sample_images:
        add_sample_images(args.folder, [decode_image(path) for path in args.sample_images])
    if args.dry_run:
        print(*check_model_folder(args.folder), sep="\n")
    else:
        print(publish_folder(args.folder, args.hub_model_id, args.hub_private_repo, args.message))


if __name__ == "__main__":
    with one_line_errors():
        main()
