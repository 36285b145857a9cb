"""What the verbs' options share: a heading of the help for each class of them, and files of options."""

import os
from typing import Annotated, Any

from cyclopts import App, Argument, ArgumentCollection, Group, Parameter, Token


def group(options: type, title: str, order: int = 0) -> Any:
    """The type of a verb's parameter that takes a dataclass, each field an option under a heading of the help."""
    # None where no option of them is given: pydantic checks the type wherever something has imported it.
    return Annotated[options | None, Parameter(name="*", group=Group(title, sort_key=order))]


def options_beneath(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Puts the options of `--config`, or else of the recipe that goes with the dataset, beneath those given.

    Raises:
        OptionError: if there is no such file or recipe, or it has other options.
    """
    options = {name.removeprefix("--"): argument for argument in arguments for name in argument.names}
    if "config" not in options:
        return
    from assocformer_hf.training.arguments import recipe_for

    dataset, config = _given(options["dataset"]), _given(options["config"])
    source = config or "the dataset's recipe"
    for name, value in recipe_for(dataset, _given(options["backbone"]), config).items():
        if value is not None and not options[name].tokens:
            for item in value if isinstance(value, list) else [value]:
                text = str(item).lower() if isinstance(item, bool) else at_home(str(item))
                options[name].append(Token(keyword=f"--{name}", value=text, source=source))


def at_home(value: str) -> str:
    """A value with the home folder in the place of a leading `~`, which a shell leaves as it is in `--output=~/x`."""
    return os.path.expanduser(value) if value.startswith(("~/", "~\\")) else value


def _given(argument: Argument) -> str | None:
    return argument.tokens[0].value if argument.tokens else None
