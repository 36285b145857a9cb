"""What the command-line scripts share: options from a file and the command line, and errors in one line."""

import sys
from argparse import ArgumentError
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml
from transformers import HfArgumentParser

from assocformer_hf.data.schema import DataError
from assocformer_hf.hub.publish import PublishError
from assocformer_hf.model.configuration_assocformer import ConfigurationError
from assocformer_hf.model.image_processing_assocformer import ImageError
from assocformer_hf.output_folder import OutputError
from assocformer_hf.training.arguments import RECIPES
from assocformer_hf.training.checkpoint import CheckpointError
from assocformer_hf.training.preemption import PREEMPTED_EXIT_CODE, Preempted
from assocformer_hf.training.step import TrainingError


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Ends the process with one line on standard error where the user can help it; other errors pass.

    A run that was asked to stop ends with `PREEMPTED_EXIT_CODE`.
    """
    try:
        yield
    except Preempted as stopped:
        print(stopped, file=sys.stderr)
        raise SystemExit(PREEMPTED_EXIT_CODE) from stopped
    except (
        DataError,
        ImageError,
        ConfigurationError,
        CheckpointError,
        OutputError,
        TrainingError,
        PublishError,
    ) as error:
        # A loader's worker passes its error on as a whole traceback, whose last line is `module.Class: message`.
        message = str(error).strip().splitlines()[-1].rpartition(f"{type(error).__name__}: ")[-1]
        raise SystemExit(f"error: {message}") from error


def parse_arguments(
    argument_classes: Sequence[type], default_recipe: Callable[[str], str] | None = None, argv: list[str] | None = None
) -> tuple:
    """Reads the command line, on top of a YAML file, on top of the defaults.

    Args:
        argument_classes: dataclasses to fill.
        default_recipe: gives the recipe of a dataset where `--config` names none.
        argv: the command line; default: the process's.

    Returns:
        One object for each class.

    Raises:
        SystemExit: on unknown options or malformed values, with one line that names them.
    """
    argv = sys.argv[1:] if argv is None else argv
    parser = HfArgumentParser(argument_classes)
    parser.add_argument("--config", type=Path, help="YAML file of options; the command line overrides it.")
    chosen = parser.parse_args(argv)
    config = chosen.config or (default_recipe and Path(default_recipe(chosen.dataset)))
    if config is not None:
        packaged = RECIPES / f"{config}.yaml"
        config = packaged if packaged.is_file() else config
        parser.set_defaults(**_read_config(parser, config))
    return parser.parse_args_into_dataclasses(argv, look_for_args_file=False)[: len(argument_classes)]


def _read_config(parser: HfArgumentParser, config: Path) -> dict:
    """The options of a YAML file, each one known to the parser."""
    try:
        options = yaml.safe_load(config.read_text(encoding="utf-8"))
    except OSError as error:
        parser.error(f"--config {config}: {error.strerror}")
    except yaml.YAMLError as error:
        parser.error(f"--config {config}: not valid YAML ({' '.join(str(error).split())})")
    if not isinstance(options, dict):
        parser.error(f"--config {config}: expected `option: value` lines")
    known = {action.dest: action for action in parser._actions}
    for name, value in options.items():
        if name not in known:
            parser.error(f"--config {config}: unknown option {name!r}")
        # Through the parser's own conversion, as YAML reads 1e-4 as text and 1 as a whole number.
        if value is not None and not isinstance(value, bool):
            try:
                parts = [
                    parser._get_value(known[name], str(part))
                    for part in (value if isinstance(value, list) else [value])
                ]
                options[name] = parts if isinstance(value, list) else parts[0]
            except ArgumentError as error:
                parser.error(f"--config {config}: {error}")
    return options
