"""Tag a folder of images on a Spark cluster: `spark-submit examples/spark_tagging.py MODEL IMAGES OUTPUT`.

Each task keeps one `Tagger`. Spark repeats the tasks of a lost executor; every image is in the Parquet files of
OUTPUT once, with `error` where it cannot be read. All three are on storage that all machines see.
"""

import sys
from collections.abc import Iterator

import pandas as pd
from pyspark.sql import SparkSession
from pyspark.sql.functions import pandas_udf

RESULT = "labels array<string>, scores array<float>, is_guess boolean, error string"


def main(model: str, images: str, output: str):
    spark = SparkSession.builder.getOrCreate()

    @pandas_udf(RESULT)
    def tag(batches: Iterator[pd.Series]) -> Iterator[pd.DataFrame]:
        from assocformer_hf import Tagger  # on the executor

        tagger = Tagger(model)
        for contents in batches:
            yield pd.DataFrame(tagger({"image": contents})).drop(columns="image")

    files = spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(images)
    tagged = files.select(files.path.alias("file"), tag("content").alias("tags")).select("file", "tags.*")
    tagged.write.parquet(output, mode="overwrite")


if __name__ == "__main__":
    main(*sys.argv[1:])
