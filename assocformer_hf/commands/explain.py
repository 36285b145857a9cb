"""`assocformer explain`."""

from assocformer_hf.commands.options import group
from assocformer_hf.inference.options import ExplainOptions


def explain(*, options: group(ExplainOptions, "Model and images")) -> None:
    """Say why images got their labels: for each image where each label was seen, and the parts of its score."""
    from assocformer_hf.commands.running import quoted, say_next
    from assocformer_hf.inference.explain import explain as explain_images
    from assocformer_hf.saved_files import require_model

    require_model(options.model)
    explain_images(options)
    say_next(f"assocformer space --model {quoted(options.model)} --output outputs/space")
