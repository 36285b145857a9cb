"""What transformers and the Hub's library write between the lines of this package, and nobody can act on."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import huggingface_hub
import transformers


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Without their progress bars and warnings, such as load reports; a level that the caller set is kept.

    The one thing in a load report that matters, weights that a checkpoint lacks, is said by `from_backbone`.
    """
    libraries = [library for library in (transformers.logging, huggingface_hub.logging) if _is_default(library)]
    bars = transformers.logging.is_progress_bar_enabled()
    for library in libraries:
        library.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        for library in libraries:
            library.set_verbosity_warning()
        if bars:
            transformers.logging.enable_progress_bar()


def _is_default(library) -> bool:
    return library.get_verbosity() == logging.WARNING
