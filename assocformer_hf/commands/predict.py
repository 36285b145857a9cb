"""`assocformer predict`."""

import sys

from assocformer_hf.commands.options import group
from assocformer_hf.inference.options import PredictOptions


def predict(*, options: group(PredictOptions, "Model and images")) -> None:
    """Tag images: a table for a few, Parquet shards for millions, which go on where they were stopped."""
    from assocformer_hf.commands.running import quoted, say_next
    from assocformer_hf.inference.predict import predict as tag
    from assocformer_hf.saved_files import require_model

    require_model(options.model)
    tag(options)
    images = " ".join(map(quoted, options.images))
    # The table goes to the standard output alone.
    stream = sys.stdout if options.output else sys.stderr
    column = f" --image_column {quoted(options.image_column)}" if options.image_column else ""
    say_next(f"assocformer explain --model {quoted(options.model)} --images {images}{column}", stream)
