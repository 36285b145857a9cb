"""`assocformer space`."""

from dataclasses import dataclass, field
from pathlib import Path

from assocformer_hf.commands.options import group


@dataclass
class SpaceOptions:
    """What to show, and where."""

    model: str = field(metadata={"help": "Model on the Hub; a folder, for a Space on your own machine."})
    output: Path = field(default=Path("outputs/space"), metadata={"help": "Folder to write."})
    title: str | None = field(default=None, metadata={"help": "Default: the model's name."})
    push_to_hub: bool = field(default=False, metadata={"help": "Publish the folder."})
    hub_space_id: str | None = field(default=None, metadata={"help": "Space: organization/name. Default: the model's."})
    hub_private_repo: bool | None = field(default=None, metadata={"help": "Whether a new Space is private."})


def space(*, options: group(SpaceOptions, "Space")) -> None:
    """Make a Gradio Space of a model: its labels, where in the picture each was seen, and why."""
    from assocformer_hf.commands.main import fail
    from assocformer_hf.commands.running import quoted, say_next
    from assocformer_hf.hub.create_space import create_space
    from assocformer_hf.hub.publish import publish_space
    from assocformer_hf.saved_files import is_hub_id, require_model

    if options.push_to_hub and Path(options.model).is_dir():
        fail(f"{options.model}: a Space on the Hub shows a model there: publish it first, and give its Hub id")
    for name in ("hub_space_id", "hub_private_repo"):
        if getattr(options, name) and not options.push_to_hub:
            fail(f"--{name} needs --push_to_hub")
    on_hub = is_hub_id(options.model) and not Path(options.model).exists()
    if not on_hub:  # a name on the Hub is looked up when the Space starts
        require_model(options.model)
    create_space(options.output, options.model, options.title)
    print(f"written: {options.output}" + (f", for the model {options.model} on the Hub" if on_hub else ""))
    if options.push_to_hub:
        print(publish_space(options.output, options.hub_space_id or options.model, options.hub_private_repo))
    say_next(f"python {quoted(options.output / 'app.py')}")
