"""`assocformer calibrate`."""

from assocformer_hf.commands.options import group
from assocformer_hf.data.readers.options import SourceOptions
from assocformer_hf.evaluation.options import CalibrationOptions, EvaluationArguments


def calibrate(
    *,
    options: group(EvaluationArguments, "Model and dataset", 1),
    choice: group(CalibrationOptions, "Thresholds and scores", 2),
    source: group(SourceOptions, "How the data are read", 3) = None,
) -> None:
    """Choose thresholds and scale scores to probabilities, on images that the model was not trained on."""
    from assocformer_hf.commands.running import quoted, say_next
    from assocformer_hf.hub.calibrate_model import calibrate_model
    from assocformer_hf.saved_files import require_model

    require_model(options.model)
    calibrate_model(options, source or SourceOptions(), choice)
    say_next(f"assocformer predict --model {quoted(choice.output)} --images FILES_OR_FOLDERS")
