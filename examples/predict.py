"""Tag images: a table for a few, a file, or Parquet shards for millions.

`python examples/predict.py --model FOLDER --images DIR` prints a line for each image.
`accelerate launch examples/predict.py --model FOLDER --images DIR --output OUT` writes shards; started again after it
was stopped, it goes on. `--output tags.csv`, `.json`, `.jsonl` or `.parquet` writes one file.
"""

from assocformer_hf.command_line import one_line_errors, parse_arguments
from assocformer_hf.inference.predict import PredictOptions, predict

if __name__ == "__main__":
    with one_line_errors():
        predict(*parse_arguments([PredictOptions]))
