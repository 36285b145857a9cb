"""AssocFormer: multi-label image classification with learned label associations, at home in transformers.

Importing the package registers its model with the Auto classes of transformers. Everything but the model is imported
when it is first used.
"""

from importlib import import_module

from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification

from assocformer_hf.model.configuration_assocformer import AssocFormerConfig
from assocformer_hf.model.image_processing_assocformer import AssocFormerImageProcessor
from assocformer_hf.model.modeling_assocformer import AssocFormerForMultiLabel, AssocFormerOutput

__version__ = "0.1.0"

_ON_DEMAND = {
    "Tagger": "assocformer_hf.inference.tagger",
    "evaluate_module_path": "assocformer_hf.evaluation.metrics",
    "load_multilabel_dataset": "assocformer_hf.data.load",
    "multilabel_metrics": "assocformer_hf.evaluation.metrics",
    "train": "assocformer_hf.training.train",
}

__all__ = [
    "AssocFormerConfig",
    "AssocFormerForMultiLabel",
    "AssocFormerImageProcessor",
    "AssocFormerOutput",
    *_ON_DEMAND,
]

AutoConfig.register(AssocFormerConfig.model_type, AssocFormerConfig)
AutoImageProcessor.register(AssocFormerConfig, image_processor_classes={"torchvision": AssocFormerImageProcessor})
AutoModelForImageClassification.register(AssocFormerConfig, AssocFormerForMultiLabel)


def __getattr__(name: str):
    if name in _ON_DEMAND:
        return getattr(import_module(_ON_DEMAND[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
