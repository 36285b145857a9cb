"""AssocFormer: multi-label image classification with learned label associations, at home in transformers.

Importing the package registers its model with the Auto classes of transformers. Everything else is imported when it is
first used.
"""

import sys
from importlib import import_module
from pathlib import Path

__version__ = "0.1.0"

_ON_DEMAND = {
    "AssocFormerConfig": "assocformer_hf.model.configuration_assocformer",
    "AssocFormerForMultiLabel": "assocformer_hf.model.modeling_assocformer",
    "AssocFormerImageProcessor": "assocformer_hf.model.image_processing_assocformer",
    "AssocFormerOutput": "assocformer_hf.model.modeling_assocformer",
    "Tagger": "assocformer_hf.inference.tagger",
    "evaluate_module_path": "assocformer_hf.evaluation.metrics",
    "load_multilabel_dataset": "assocformer_hf.data.load",
    "multilabel_metrics": "assocformer_hf.evaluation.metrics",
    "train": "assocformer_hf.training.train",
}

__all__ = [*_ON_DEMAND]


def register():
    """Makes the model known to the Auto classes of transformers."""
    from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification

    from assocformer_hf.model.configuration_assocformer import AssocFormerConfig
    from assocformer_hf.model.image_processing_assocformer import AssocFormerImageProcessor
    from assocformer_hf.model.modeling_assocformer import AssocFormerForMultiLabel

    kind = AssocFormerConfig.model_type
    AutoConfig.register(kind, AssocFormerConfig, exist_ok=True)
    processors = {"torchvision": AssocFormerImageProcessor}
    AutoImageProcessor.register(AssocFormerConfig, image_processor_classes=processors, exist_ok=True)
    AutoModelForImageClassification.register(AssocFormerConfig, AssocFormerForMultiLabel, exist_ok=True)


def _is_command() -> bool:
    """Whether this process is the command, whose help is shown without torch; its verbs register the model."""
    if sys.argv[0] == "-m":  # as long as Python looks for the module
        return ("-m", __name__) in zip(sys.orig_argv, sys.orig_argv[1:], strict=False)
    return Path(sys.argv[0]).stem == "assocformer"


if not _is_command():
    register()


def __getattr__(name: str):
    if name in _ON_DEMAND:
        return getattr(import_module(_ON_DEMAND[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
