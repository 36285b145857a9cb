"""AssocFormer: multi-label image classification with learned label associations, at home in transformers.

    dataset = load_multilabel_dataset("photos/")             a path, a table, a Hub id or data in memory, in one schema
    result = train(dataset, output_dir="outputs/photos")     any option of the command; model, processor, metrics
    tags = Tagger("outputs/photos")(["a.jpg"])               labels above their thresholds, scores, and explain()

    AssocFormerForMultiLabel, AssocFormerConfig, AssocFormerImageProcessor, AssocFormerOutput    as in transformers
    MultiLabelImages, MultiLabelStream, MultiLabelCollator, create_image_processor, backbone_image_processor,
    training_transform, evaluation_transform, pixel_scaling, label_names      for a loop of your own, or Trainer
    multilabel_metrics(scores, targets)                      mAP, CF1, OF1 and others
    evaluate_module_path()                                   the same for `evaluate.load`
    DataError, OptionError, ConfigurationError, ImageError, ModelFileError, OutputError, CheckpointError,
    TrainingError                                            each names the file or value, and the way out; ValueErrors
    Preempted                                                ends a training that was stopped by a signal

`help(assocformer_hf.train)` and the like say more; the command is `assocformer --help`. Importing the package registers
its model with the Auto classes of transformers; everything else is imported when it is first used.
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for editors and type checkers; the same as `_ON_DEMAND`
    from assocformer_hf.data.images.dataset import MultiLabelCollator as MultiLabelCollator
    from assocformer_hf.data.images.dataset import MultiLabelImages as MultiLabelImages
    from assocformer_hf.data.images.streaming import MultiLabelStream as MultiLabelStream
    from assocformer_hf.data.images.transforms import backbone_image_processor as backbone_image_processor
    from assocformer_hf.data.images.transforms import create_image_processor as create_image_processor
    from assocformer_hf.data.images.transforms import evaluation_transform as evaluation_transform
    from assocformer_hf.data.images.transforms import pixel_scaling as pixel_scaling
    from assocformer_hf.data.images.transforms import training_transform as training_transform
    from assocformer_hf.data.load import load_multilabel_dataset as load_multilabel_dataset
    from assocformer_hf.data.schema import DataError as DataError
    from assocformer_hf.data.schema import label_names as label_names
    from assocformer_hf.evaluation.metrics import evaluate_module_path as evaluate_module_path
    from assocformer_hf.evaluation.metrics import multilabel_metrics as multilabel_metrics
    from assocformer_hf.inference.tagger import Tagger as Tagger
    from assocformer_hf.model.configuration_assocformer import AssocFormerConfig as AssocFormerConfig
    from assocformer_hf.model.configuration_assocformer import ConfigurationError as ConfigurationError
    from assocformer_hf.model.image_processing_assocformer import AssocFormerImageProcessor as AssocFormerImageProcessor
    from assocformer_hf.model.image_processing_assocformer import ImageError as ImageError
    from assocformer_hf.model.modeling_assocformer import AssocFormerForMultiLabel as AssocFormerForMultiLabel
    from assocformer_hf.model.modeling_assocformer import AssocFormerOutput as AssocFormerOutput
    from assocformer_hf.option_values import OptionError as OptionError
    from assocformer_hf.output_folder import OutputError as OutputError
    from assocformer_hf.saved_files import ModelFileError as ModelFileError
    from assocformer_hf.training.checkpoint import CheckpointError as CheckpointError
    from assocformer_hf.training.preemption import Preempted as Preempted
    from assocformer_hf.training.step import TrainingError as TrainingError
    from assocformer_hf.training.train import train as train

__version__ = "0.1.0"

_ON_DEMAND = {
    "AssocFormerConfig": "assocformer_hf.model.configuration_assocformer",
    "AssocFormerForMultiLabel": "assocformer_hf.model.modeling_assocformer",
    "AssocFormerImageProcessor": "assocformer_hf.model.image_processing_assocformer",
    "AssocFormerOutput": "assocformer_hf.model.modeling_assocformer",
    "CheckpointError": "assocformer_hf.training.checkpoint",
    "ConfigurationError": "assocformer_hf.model.configuration_assocformer",
    "DataError": "assocformer_hf.data.schema",
    "ImageError": "assocformer_hf.model.image_processing_assocformer",
    "ModelFileError": "assocformer_hf.saved_files",
    "MultiLabelCollator": "assocformer_hf.data.images.dataset",
    "MultiLabelImages": "assocformer_hf.data.images.dataset",
    "MultiLabelStream": "assocformer_hf.data.images.streaming",
    "OptionError": "assocformer_hf.option_values",
    "OutputError": "assocformer_hf.output_folder",
    "Preempted": "assocformer_hf.training.preemption",
    "Tagger": "assocformer_hf.inference.tagger",
    "TrainingError": "assocformer_hf.training.step",
    "backbone_image_processor": "assocformer_hf.data.images.transforms",
    "create_image_processor": "assocformer_hf.data.images.transforms",
    "evaluate_module_path": "assocformer_hf.evaluation.metrics",
    "evaluation_transform": "assocformer_hf.data.images.transforms",
    "label_names": "assocformer_hf.data.schema",
    "load_multilabel_dataset": "assocformer_hf.data.load",
    "multilabel_metrics": "assocformer_hf.evaluation.metrics",
    "pixel_scaling": "assocformer_hf.data.images.transforms",
    "train": "assocformer_hf.training.train",
    "training_transform": "assocformer_hf.data.images.transforms",
}


def register() -> None:
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
    program = sys.argv[0] if sys.argv else ""  # an embedded Python has none
    if program == "-m":  # as long as Python looks for the module
        return ("-m", __name__) in zip(sys.orig_argv, sys.orig_argv[1:], strict=False)
    return Path(program).name in ("assocformer", "assocformer.exe")


if not _is_command():
    register()


def __getattr__(name: str):
    if name in _ON_DEMAND:
        return getattr(import_module(_ON_DEMAND[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(_ON_DEMAND)
