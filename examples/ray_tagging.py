"""Tag a folder of images on a Ray cluster: `python examples/ray_tagging.py MODEL IMAGES OUTPUT`.

Each worker keeps one `Tagger`. Ray repeats what a lost worker had in hand; every image is in the Parquet files of
OUTPUT once, with `error` where it cannot be read. All three are on storage that all machines see.
"""

import sys

import ray

from assocformer_hf import Tagger


def main(model: str, images: str, output: str):
    ray.init()  # the cluster of RAY_ADDRESS, or this machine
    workers = int(ray.cluster_resources()["CPU"])
    # Reading and writing reserve no core: where machines are lost, the taggers hold all that are left, and would wait
    # forever for images that are to be read again. As many blocks as keep all workers busy to the end.
    files = ray.data.read_binary_files(
        images, include_paths=True, override_num_blocks=16 * workers, num_cpus=0, concurrency=workers
    )
    tagged = files.rename_columns({"bytes": "image", "path": "file"}).map_batches(
        Tagger,
        fn_constructor_kwargs={"model": model},
        batch_size=32,
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers),
    )
    labels = tagged.drop_columns(["image"], num_cpus=0, compute=ray.data.TaskPoolStrategy(workers))
    labels.write_parquet(output, mode="overwrite", concurrency=workers, ray_remote_args={"num_cpus": 0})


if __name__ == "__main__":
    main(*sys.argv[1:])
