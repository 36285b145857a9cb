"""Tagging many images: a table on the screen, one file, or Parquet shards for millions."""

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import datasets
import pyarrow
import pyarrow.parquet
from accelerate import Accelerator

from assocformer_hf.csv_file import FORMULA, write_csv
from assocformer_hf.data.identity import image_digests
from assocformer_hf.data.load import load_images
from assocformer_hf.data.main_process import from_main_process, require_all_processes
from assocformer_hf.data.readers.label_cells import DELIMITERS
from assocformer_hf.data.result_shards import BAD_FILES, SHARDS, ShardFolder, write_bad_files
from assocformer_hf.data.schema import DataError
from assocformer_hf.evaluation.evaluator import start_accelerator
from assocformer_hf.evaluation.trained_model import NO_NUMBERS, model_digest
from assocformer_hf.inference.images import InferenceImages, inference_batches, read_source, spread_images
from assocformer_hf.inference.onnx import CALIBRATION_IMAGES
from assocformer_hf.inference.options import FILES, PredictOptions
from assocformer_hf.inference.tagger import TaggedImage, Tagger
from assocformer_hf.model.image_processing_assocformer import ImageError
from assocformer_hf.output_folder import OutputFolder, refuse_file, write_file
from assocformer_hf.progress import progress_bar
from assocformer_hf.wording import counted

LABEL_SEPARATOR = "|"  # as in the tables that training reads
Unreadable = list[tuple[str, str]]


@dataclass
class PredictResult:
    """What a tagging run found.

    Attributes:
        images: number of images.
        tagged: number of those that could be read.
        unreadable: name and reason of the others.
    """

    images: int
    tagged: int
    unreadable: Unreadable


def predict(options: PredictOptions) -> PredictResult:
    """Tags images, over all processes of an `accelerate launch` where the output is a folder.

    Called again after it was stopped, it goes on in its folder, and tags images that could not be read and now can.
    Results of other images, another model, image processor or option in the same folder are never mixed with its own.

    Raises:
        DataError: if a source has no images, or the folder holds another run's results.
        OutputError: if files of others are in the way, or another job is at work in the folder.
    """
    accelerator = start_accelerator(options.mixed_precision)
    require_all_processes()
    run = _Run(options, accelerator)
    if options.output is not None and options.output.suffix.lower() not in FILES:
        return run.write_shards()
    if not accelerator.is_main_process:
        return PredictResult(len(run.images), 0, [])
    return run.print_table() if options.output is None else run.write_file()


class _Run:
    """The images and the model of a tagging run in one process."""

    def __init__(self, options: PredictOptions, accelerator: Accelerator):
        self.options, self.accelerator = options, accelerator
        # Listed once: a file that arrives while the processes start would shift the images of some of them.
        self.images: datasets.Dataset = from_main_process(
            lambda: load_images(options.images, options.image_column, options.data_dir)
        )
        self.tagger = Tagger(
            options.model,
            options.threshold,
            options.top_k,
            options.batch_size,
            accelerator.device if options.runtime == "torch" else "cpu",
            accelerator.mixed_precision,
            options.runtime,
            # The same in every process and after every stop.
            spread_images(self.images, CALIBRATION_IMAGES) if options.runtime == "onnx-int8" else (),
        )

    def tag(self, ranges: Sequence[range]) -> Iterator[tuple[list[tuple[int, TaggedImage]], Unreadable]]:
        """For each range of the images the number and labels of those that can be read, and why others cannot."""
        size = self.options.batch_size
        parts = [part[start : start + size] for part in ranges for start in range(0, len(part), size)]
        images = InferenceImages(self.images, self.tagger.processor)
        loader = inference_batches(images, parts, self.options.num_workers)
        shown = self.accelerator.is_main_process and self.options.output is not None
        batches = iter(progress_bar(loader, shown, total=len(parts), desc="predict", unit="batches"))
        for part in ranges:
            rows, bad = [], []
            for _ in range(0, len(part), size):
                found, pixels, unreadable = next(batches)
                bad += unreadable
                if found:
                    for (index, name), scores in zip(found, self.tagger.score(pixels), strict=True):
                        tagged = self.tagger.tags(name, scores)
                        if tagged.error:
                            bad.append((name, tagged.error))
                        else:
                            rows.append((index, tagged))
            yield rows, bad

    def tag_all(self) -> Iterator[tuple[list[tuple[int, TaggedImage]], Unreadable]]:
        """All images, a batch at a time."""
        size, count = self.options.batch_size, len(self.images)
        return self.tag([range(start, min(start + size, count)) for start in range(0, count, size)])

    @cached_property
    def identity(self) -> dict:
        """What the results depend on."""
        names = hashlib.sha256()
        for batch in self.images.with_format("arrow").iter(4096):
            names.update(json.dumps(batch.column("image").combine_chunks().field("path").to_pylist()).encode())
        run = {
            "images": [len(self.images), names.hexdigest()],
            "model": model_digest(self.tagger.model),
            "processor": self.tagger.processor.to_dict(),
            "label_names": self.tagger.label_names,
            "thresholds": self.tagger.thresholds.tolist(),
            "top_k": self.options.top_k,
            "batch_size": self.options.batch_size,
            "shard_size": self.options.shard_size,
            "mixed_precision": self.accelerator.mixed_precision,
            "runtime": self.options.runtime,
        }
        if self.tagger.onnx is not None:
            # Its folder in the cache has the name of all that it depends on, such as the kind of CPU.
            run["ONNX file"] = self.tagger.onnx.path.parent.name
        return run

    def write_shards(self) -> PredictResult:
        """Tags all images, shared out between the processes, a shard at a time."""
        accelerator, output = self.accelerator, OutputFolder(self.options.output, self.options.overwrite)
        digests = from_main_process(lambda: image_digests(self.images))
        shards = ShardFolder(output, "tags", len(self.images), self.options.shard_size, digests)
        with output.locked() if accelerator.is_main_process else nullcontext():
            if accelerator.is_main_process:
                output.refuse_foreign([BAD_FILES], SHARDS)
                shards.start(self.identity)
            pending = from_main_process(lambda: shards.pending(self._can_be_read))
            mine = pending[accelerator.process_index :: accelerator.num_processes]
            for shard, (rows, bad) in zip(mine, self.tag([shards.ranges[i] for i in mine]), strict=True):
                shards.write(shard, self._table(rows), bad)
            accelerator.wait_for_everyone()
            tagged, bad = shards.finished()
            if accelerator.is_main_process:
                write_bad_files(output, bad)
                print(f"{tagged} of {len(self.images)} images tagged: {output}")
                if bad:
                    print(f"{len(bad)} could not be tagged: {output}/{BAD_FILES}", file=sys.stderr)
                self._require_some(tagged, bad[:1], f"; remove {output}, which this run has begun to fill")
        return PredictResult(len(self.images), tagged, bad)

    def _can_be_read(self, name: str, reason: str) -> bool:
        """Whether a file that could not be read is mended, or was out of reach for a while; not for other reasons."""
        if reason == NO_NUMBERS or not os.path.isfile(name):
            return False
        with suppress(ImageError):
            read_source(name, self.tagger.processor)
            return True
        return False

    def write_file(self) -> PredictResult:
        """Tags all images and writes one file, whose suffix gives the form."""
        path, bad = self.options.output, []
        refuse_file(path, self.options.overwrite)
        rows = []
        for found, unreadable in self.tag_all():
            rows += found
            bad += unreadable
        self._require_some(len(rows), bad)
        write_file(path, lambda aside: self._save(rows, aside, path.suffix.lower()), self.options.overwrite)
        print(f"{len(rows)} of {len(self.images)} images tagged: {path}")
        _name_unreadable(bad)
        return PredictResult(len(self.images), len(rows), bad)

    def _require_some(self, tagged: int, bad: Unreadable, way: str = ""):
        """Refuses a run in which nothing was tagged, as with broken weights.

        Raises:
            DataError: with the reason of the first file.
        """
        if not tagged and bad:
            name, why = bad[0]
            raise DataError(
                f"none of {counted(len(self.images), 'image')} could be tagged; the first, {name}: {why}{way}"
            )

    def print_table(self) -> PredictResult:
        """A line for each image: its file, and its labels with their scores; a best guess has a question mark.

        Raises:
            DataError: at the end, if files could not be read.
        """
        tagged, bad = 0, []
        for rows, unreadable in self.tag_all():
            for _, one in rows:
                marks = "?" if one.is_guess else ""
                scored = [f"{label}{marks} {score:.2f}" for label, score in zip(one.labels, one.scores, strict=True)]
                print(one.name, ", ".join(scored), sep="\t")
            _name_unreadable(unreadable)
            tagged += len(rows)
            bad += unreadable
        if bad:
            raise DataError(f"{len(bad)} of {len(self.images)} files could not be tagged (named above)")
        return PredictResult(len(self.images), tagged, bad)

    def _table(self, rows: list[tuple[int, TaggedImage]]) -> pyarrow.Table:
        strings = pyarrow.list_(pyarrow.string())
        columns = {"index": pyarrow.int64(), "file": pyarrow.string(), "labels": strings, "is_guess": pyarrow.bool_()}
        columns["scores"] = pyarrow.list_(pyarrow.float32(), len(self.tagger.label_names))
        content = [
            {"index": i, "file": one.name, "labels": one.labels, "is_guess": one.is_guess, "scores": one.all_scores}
            for i, one in rows
        ]
        return pyarrow.Table.from_pylist(content, pyarrow.schema(columns))

    def _save(self, rows: list[tuple[int, TaggedImage]], path: Path, suffix: str):
        if suffix == ".parquet":
            with path.open("wb") as file:  # pyarrow takes no paths that are not UTF-8
                pyarrow.parquet.write_table(self._table(rows), file)
            return
        if suffix == ".csv":
            lines = [
                {
                    # What a spreadsheet would run as a formula would get an apostrophe, and be no path any more.
                    "file_name": os.path.join(".", one.name) if one.name.startswith(FORMULA) else one.name,
                    "labels": _joined(one.labels),
                    "scores": LABEL_SEPARATOR.join(f"{score:.4f}" for score in one.scores),
                    "is_guess": str(one.is_guess).lower(),
                }
                for _, one in rows
            ]
            write_csv(path, lines, ["file_name", "labels", "scores", "is_guess"])
            return
        with path.open("w", encoding="utf-8") as file:
            content = [
                {"file_name": one.name, "labels": one.labels, "scores": one.scores, "is_guess": one.is_guess}
                for _, one in rows
            ]
            if suffix == ".json":
                json.dump(content, file, indent=1, ensure_ascii=False)
            else:
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in content)


def _joined(labels: Sequence[str]) -> str:
    """Labels in a cell, in quotes where they hold what divides labels or lines, or would start a formula or a quote."""

    def quoted(label: str) -> str:
        if label.startswith((*FORMULA, *'"[({')) or any(mark in label for mark in (*DELIMITERS, "\n", "\r")):
            return '"' + label.replace('"', '""') + '"'
        return label

    return LABEL_SEPARATOR.join(map(quoted, labels))


def _name_unreadable(bad: Unreadable):
    for name, why in bad:
        print(f"{name}: cannot be tagged ({why}); left out", file=sys.stderr)
