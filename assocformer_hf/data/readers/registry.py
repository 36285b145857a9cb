"""The forms of datasets: every module of this package that defines a `Reader` adds one."""

import importlib
import pkgutil
from functools import cache
from pathlib import Path

from assocformer_hf.data import readers
from assocformer_hf.data.readers.options import SourceOptions
from assocformer_hf.data.readers.reader import Reader
from assocformer_hf.data.schema import DataError


@cache
def forms() -> dict[str, type[Reader]]:
    """The readers by the name of their form."""
    for module in pkgutil.iter_modules(readers.__path__):
        importlib.import_module(f"{readers.__name__}.{module.name}")
    return {reader.form: reader for reader in sorted(Reader.__subclasses__(), key=lambda reader: reader.form)}


def find_reader(source, options: SourceOptions, data_dir: str | Path | None = None) -> Reader:
    """The reader of a source, by the form given or by what is there.

    Args:
        source: a path that exists, a Hub id, or an object in memory.
        options: how to read it.
        data_dir: the folder that image paths are relative to.

    Raises:
        DataError: if no form fits, or several do.
    """
    if options.form is not None and options.form not in forms():
        raise DataError(f"unknown form {options.form!r}; expected one of {', '.join(forms())}")
    allowed = [forms()[options.form]] if options.form else list(forms().values())
    candidates = [reader(options, data_dir) for reader in allowed if isinstance(source, reader.reads)]
    fits = {reader: reader.matches(source) for reader in candidates}
    best = [reader for reader, match in fits.items() if match and match == max(fits.values())]
    if len(best) > 1:
        both = " and ".join(f"{reader.form} ({reader.looks_for})" for reader in best)
        raise DataError(f"{source}: reads as {both}; choose one as form")
    if not best:
        looked_for = "; ".join(reader.looks_for for reader in allowed if reader.reads is Path) or allowed[0].looks_for
        shown = source if isinstance(source, (str, Path)) else f"a {type(source).__name__}"
        raise DataError(f"{shown}: no dataset found; looked for {looked_for}")
    return best[0]
