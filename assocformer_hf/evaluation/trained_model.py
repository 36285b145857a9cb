"""Models that were trained: all of their weights are there, or there is no model."""

from pathlib import Path

from assocformer_hf.model.configuration_assocformer import ConfigurationError
from assocformer_hf.model.modeling_assocformer import AssocFormerForMultiLabel


def load_trained_model(name_or_path: str | Path) -> AssocFormerForMultiLabel:
    """A model whose scores are to be believed, in evaluation mode.

    `from_pretrained` gives weights that it does not find random values, which suits a head that is yet to be trained.

    Args:
        name_or_path: the folder or Hub id of a trained model.

    Raises:
        ConfigurationError: if some of its weights are missing.
    """
    model, found = AssocFormerForMultiLabel.from_pretrained(name_or_path, output_loading_info=True)
    if missing := sorted(found["missing_keys"]):
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ConfigurationError(
            f"{name_or_path}: its weights lack {', '.join(missing[:3])}{more}: the folder is not whole, or of another "
            "version of this package; fetch it again, or train it again"
        )
    return model.eval()
