"""The command `assocformer`: its verbs, each imported when it is called for."""

import os
import sys
from collections.abc import Collection, Sequence
from typing import NoReturn

from cyclopts import App, CycloptsError, Parameter

from assocformer_hf import __version__, register
from assocformer_hf.commands.options import at_home, options_beneath

PACKAGE = "assocformer_hf.commands"
VERBS = {
    "check": "Look for what is wrong with a dataset.",
    "prepare": "Make any dataset a folder for the Hub.",
    "train": "Train a model.",
    "evaluate": "Measure a model on a split of a dataset.",
    "calibrate": "Choose a model's thresholds and scale its scores to probabilities.",
    "predict": "Tag images.",
    "explain": "Say why images got their labels.",
    "export": "Write a model as ONNX.",
    "publish": "Send a model to the Hub.",
    "space": "Make a Gradio Space of a model.",
}
USER_ERROR = 2  # exit code


def create_app(whole: Collection[str] = ()) -> App:
    """The command with all its verbs; options are called as in Python, with underscores.

    Args:
        whole: the verbs whose help is the whole description of their function, which is imported for it; of others it
            is a line.
    """
    app = App(
        name="assocformer",
        help="Multi-label image classification with learned label associations.",
        version=__version__,
        default_parameter=Parameter(
            name_transform=str,
            negative_bool="no_",
            negative_iterable="",
            consume_multiple=True,
            allow_repeating=True,
        ),
        config=options_beneath,
        exit_on_error=False,
        print_error=False,
    )
    for place, (verb, description) in enumerate(VERBS.items()):
        shown = None if verb in whole else description
        app.command(f"{PACKAGE}.{verb}:{verb}", name=verb, help=shown, sort_key=place)
    app.register_install_completion_command()
    return app


def main(words: Sequence[str] | None = None) -> None:
    """Runs the command.

    Args:
        words: the verb and its options; default: those of this process.

    Raises:
        SystemExit: with code 2 and one line on standard error where the user can help it.
    """
    words = list(sys.argv[1:] if words is None else words)
    app = create_app(words[:1])
    try:
        verb, bound, _ = app.parse_args(with_values(words))
    except (CycloptsError, ValueError) as error:  # the latter of a file of options, or of some that exclude each other
        fail(str(error), alike=True)
    if not verb.__module__.startswith(PACKAGE):  # help, version, completion
        verb(*bound.args, **bound.kwargs)
        return
    from assocformer_hf.commands.running import one_line_errors  # torch comes with it
    from assocformer_hf.quiet import quiet_libraries

    register()
    with quiet_libraries(), one_line_errors():
        verb(*bound.args, **bound.kwargs)


def with_values(words: list[str]) -> list[str]:
    """The words, with a bare `--resume` as the last checkpoint, `--name true` as `--name=true`, and `~` as a path."""
    words = ["=".join(map(at_home, word.split("=", 1))) for word in words]
    result: list[str] = []
    for word, following in zip(words, [*words[1:], "--"], strict=True):
        last = following.startswith("--")
        switches = last and result and result[-1].startswith("--") and "=" not in result[-1]
        if switches and word.lower() in ("true", "false"):
            result[-1] += f"={word.lower()}"
        else:
            result += [word, "last"] if last and word == "--resume" else [word]
    return result


def fail(message: str, alike: bool = False) -> NoReturn:
    """Ends the process with one line on standard error, and the exit code of what the user can help.

    Args:
        message: what is wrong, and the way out.
        alike: whether all processes of a launcher end so, and the first one speaks for them.
    """
    if not alike or int(os.environ.get("RANK", "0")) == 0:
        print(f"error: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(USER_ERROR)
