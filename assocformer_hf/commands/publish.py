"""`assocformer publish`."""

from dataclasses import dataclass, field
from pathlib import Path

from assocformer_hf.commands.options import group


@dataclass
class PublishOptions:
    """What to publish, and where."""

    model: Path = field(metadata={"help": "Folder that train or calibrate wrote."})
    hub_model_id: str = field(metadata={"help": "Repository: organization/name."})
    hub_private_repo: bool | None = field(default=None, metadata={"help": "Whether a new repository is private."})
    sample_images: list[Path] = field(
        default_factory=list, metadata={"help": "Images to try the model with on its page; whoever sees it sees them."}
    )
    message: str | None = field(default=None, metadata={"help": "Message of the commit."})
    license: str | None = field(
        default=None,
        metadata={
            "help": "Licence of the weights for the model's page, such as apache-2.0. Default: as its card says."
        },
    )
    dry_run: bool = field(default=False, metadata={"help": "Check the folder and list what would be sent."})


def publish(*, options: group(PublishOptions, "Model and repository")) -> None:
    """Send a model to the Hub in one commit, after it was loaded in a clean process."""
    from assocformer_hf.commands.main import fail
    from assocformer_hf.commands.running import quoted, say_next
    from assocformer_hf.data.images.decoding import decode_image
    from assocformer_hf.hub.model_folder import add_sample_images
    from assocformer_hf.hub.publish import check_model_folder, publish_folder, require_parts, require_repository_name

    folder = options.model
    require_repository_name(options.hub_model_id)
    require_parts(folder)
    if options.sample_images:
        if options.dry_run:
            fail("--dry_run changes nothing, and --sample_images puts images into the folder: leave out one of them")
        add_sample_images(folder, [decode_image(path) for path in options.sample_images])
    if options.dry_run:
        print(*check_model_folder(folder), sep="\n")
        words = f"--model {quoted(folder)} --hub_model_id {quoted(options.hub_model_id)}"
        words += " --hub_private_repo" * bool(options.hub_private_repo)
        for name in ("message", "license"):
            words += f" --{name} {quoted(getattr(options, name))}" if getattr(options, name) else ""
        say_next(f"assocformer publish {words}")
    else:
        private, message = options.hub_private_repo, options.message
        print(publish_folder(folder, options.hub_model_id, private, message, options.license))
        say_next(f"assocformer space --model {quoted(options.hub_model_id)} --push_to_hub")
