"""What happens around a verb: errors in one line, and what to do next."""

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from assocformer_hf.commands.main import fail
from assocformer_hf.data.schema import DataError
from assocformer_hf.hub.publish import PublishError
from assocformer_hf.model.configuration_assocformer import ConfigurationError
from assocformer_hf.model.image_processing_assocformer import ImageError
from assocformer_hf.option_values import OptionError
from assocformer_hf.output_folder import OutputError
from assocformer_hf.saved_files import NETWORK_ERRORS, ModelFileError
from assocformer_hf.training.checkpoint import CheckpointError
from assocformer_hf.training.preemption import PREEMPTED_EXIT_CODE, Preempted
from assocformer_hf.training.step import TrainingError
from assocformer_hf.wording import first_line, shown

OWN_ERRORS = (
    DataError,
    ImageError,
    ConfigurationError,
    OptionError,
    CheckpointError,
    OutputError,
    TrainingError,
    PublishError,
    ModelFileError,
)
# What an import asks for that the package's extras bring.
EXTRAS = {
    "onnx": "export", "onnxscript": "export", "onnxruntime": "export", "gradio": "space", "captum": "explain",
}  # fmt: skip


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Ends the process with one line on standard error where the user can help it; other errors pass.

    A run that was asked to stop ends with `PREEMPTED_EXIT_CODE`.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError as error:  # what reads the output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from error
    except Preempted as stopped:
        print(stopped, file=sys.stderr)
        raise SystemExit(PREEMPTED_EXIT_CODE) from stopped
    except OWN_ERRORS as error:
        # A loader's worker passes its error on as a whole traceback, whose last line is `module.Class: message`.
        fail(str(error).strip().splitlines()[-1].rpartition(f"{type(error).__name__}: ")[-1])
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        state = "is not installed" if error.name == package else "is too old"  # without a part of it that is asked for
        fail(f'{package} {state}: pip install -U "assocformer_hf[{EXTRAS[package]}]"')
    except NETWORK_ERRORS as error:
        fail(f"{first_line(error)} (no network, or the Hub does not answer: give a local folder)")
    except OSError as error:  # a file, or, from transformers, a model that cannot be had
        lines = (str(error).strip() or type(error).__name__).splitlines()
        fail(lines[-1] if lines[0].startswith("Caught ") else lines[0])  # by a loader's worker


def say_next(command: str, stream: TextIO | None = None) -> None:
    """The last line of a verb: what is usually done next. Of several processes the first one says it."""
    if int(os.environ.get("RANK", "0")) == 0:
        print(f"next: {command}", file=stream)


def quoted(word: object) -> str:
    """A word of a command as it is typed in a shell."""
    return shlex.quote(shown(str(word)))
