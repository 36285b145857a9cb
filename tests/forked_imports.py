"""What the process that forks has imported, see `forked.py`: all that the commands import."""

import importlib
import pkgutil

import matplotlib.pyplot  # noqa: F401
import timm  # noqa: F401
import torchvision  # noqa: F401

from assocformer_hf import commands

for module in pkgutil.iter_modules(commands.__path__):
    importlib.import_module(f"{commands.__name__}.{module.name}")
