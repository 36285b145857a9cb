"""Tag images: a table for a few, Parquet shards for millions.

`python examples/predict.py --model FOLDER --images DIR` prints a line for each image.
`accelerate launch examples/predict.py --model FOLDER --images DIR --output OUT` writes shards; started again after it
was stopped, it goes on.
"""

import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow
import torch
from accelerate import Accelerator
from tqdm import tqdm
from transformers import AutoImageProcessor

from assocformer_hf import AssocFormerForMultiLabel
from assocformer_hf.command_line import one_line_errors, parse_arguments
from assocformer_hf.data.images.inference import InferenceImages, inference_batches
from assocformer_hf.data.load import load_images
from assocformer_hf.data.schema import DataError
from assocformer_hf.data.shards import BAD_FILES, ShardFolder, write_bad_files
from assocformer_hf.output_folder import OutputFolder


@dataclass
class Arguments:
    """What to tag, and with what."""

    model: str = field(metadata={"help": "Folder or Hub id of a trained AssocFormer."})
    images: list[str] = field(metadata={"help": "Image files, folders of them, tables, or datasets."})
    output: Path | None = field(default=None, metadata={"help": "Folder for Parquet shards. Default: print a table."})
    threshold: float | None = field(default=None, metadata={"help": "Default: the model's own threshold(s)."})
    batch_size: int = field(default=32, metadata={"help": "Images that go through the model together."})
    shard_size: int = field(default=1024, metadata={"help": "Images in a shard; what is lost at most by a kill."})
    num_workers: int = field(default=2, metadata={"help": "Processes that load images, for each process."})
    mixed_precision: str | None = field(default=None, metadata={"help": "no, fp16 or bf16."})
    image_column: str | None = field(default=None, metadata={"help": "Column of the images in tables and datasets."})


class Tagger:
    """A trained model, and the images that it tags."""

    def __init__(self, args: Arguments, accelerator: Accelerator):
        self.args, self.accelerator = args, accelerator
        self.images = load_images(args.images, args.image_column)
        self.model = AssocFormerForMultiLabel.from_pretrained(args.model).to(accelerator.device).eval()
        self.processor = AutoImageProcessor.from_pretrained(args.model)
        config = self.model.config
        self.names = [config.id2label[i] for i in range(config.num_labels)]
        own = args.threshold if args.threshold is not None else config.label_thresholds or config.threshold
        self.thresholds = torch.as_tensor(own).expand(config.num_labels)

    @torch.inference_mode()
    def tag(self, ranges: list[range]) -> Iterator[tuple[list[dict], list[tuple[str, str]]]]:
        """For each range of the images the rows of those that can be read, and the reasons for the others."""
        size = self.args.batch_size
        parts = [part[start : start + size] for part in ranges for start in range(0, len(part), size)]
        loader = inference_batches(InferenceImages(self.images, self.processor), parts, self.args.num_workers)
        shown = self.accelerator.is_main_process and self.args.output
        batches = iter(tqdm(loader, total=len(parts), unit="batch", disable=None if shown else True))
        for part in ranges:
            rows, bad = [], []
            for _ in range(0, len(part), size):
                found, pixels, unreadable = next(batches)
                bad += unreadable
                if found:
                    rows += self._score(found, pixels)
            yield rows, bad

    def _score(self, found: list[tuple[int, str]], pixels: torch.Tensor) -> Iterator[dict]:
        inputs = self.processor(pixels.to(self.model.device), do_resize=False, return_tensors="pt")
        with self.accelerator.autocast():
            scores = self.model(**inputs).logits.float().sigmoid().cpu()
        present = scores >= self.thresholds
        for (index, name), row, chosen in zip(found, scores.numpy(), present, strict=True):
            labels = sorted(chosen.nonzero().flatten().tolist(), key=lambda i: -row[i])
            yield {"index": index, "file": name, "labels": [self.names[i] for i in labels], "scores": row}

    def run(self) -> dict:
        """What the results depend on."""
        names = hashlib.sha256()
        for batch in self.images.data.to_batches(max_chunksize=4096):
            names.update(json.dumps(batch.column("image").field("path").to_pylist()).encode())
        weights = hashlib.sha256()
        for tensor in self.model.state_dict().values():
            weights.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return {
            "images": [len(self.images), names.hexdigest()],
            "model": weights.hexdigest(),
            "label_names": self.names,
            "thresholds": self.thresholds.tolist(),
            "batch_size": self.args.batch_size,
            "shard_size": self.args.shard_size,
            "mixed_precision": self.accelerator.mixed_precision,
        }


def write_shards(tagger: Tagger, accelerator: Accelerator):
    """Tags all images, shared out between the processes, a shard at a time."""
    args = tagger.args
    output = OutputFolder(args.output)
    shards = ShardFolder(output, "tags", len(tagger.images), args.shard_size)
    with output.locked() if accelerator.is_main_process else nullcontext():
        if accelerator.is_main_process:
            output.refuse_foreign([BAD_FILES])
            shards.start(tagger.run())
        accelerator.wait_for_everyone()
        pending = shards.pending()
        accelerator.wait_for_everyone()  # all of them have seen the same pending shards
        mine = pending[accelerator.process_index :: accelerator.num_processes]
        columns = {"index": pyarrow.int64(), "file": pyarrow.string(), "labels": pyarrow.list_(pyarrow.string())}
        columns["scores"] = pyarrow.list_(pyarrow.float32(), len(tagger.names))
        for shard, (rows, bad) in zip(mine, tagger.tag([shards.ranges[i] for i in mine]), strict=True):
            shards.write(shard, pyarrow.Table.from_pylist(rows, pyarrow.schema(columns)), bad)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            rows, bad = shards.finished()
            write_bad_files(output, bad)
            print(f"{rows} of {len(tagger.images)} images tagged: {output}")
            if bad:
                print(f"{len(bad)} could not be read as images: {output}/{BAD_FILES}", file=sys.stderr)


def print_table(tagger: Tagger):
    """A line for each image: its file, and the labels above the threshold with their scores."""
    unreadable = 0
    size = tagger.args.batch_size
    ranges = [range(start, min(start + size, len(tagger.images))) for start in range(0, len(tagger.images), size)]
    for rows, bad in tagger.tag(ranges):
        for row in rows:
            scored = [f"{label} {row['scores'][tagger.names.index(label)]:.2f}" for label in row["labels"]]
            print(row["file"], ", ".join(scored) or "-", sep="\t")
        for name, why in bad:
            print(f"{name}: cannot be read as an image ({why}); left out", file=sys.stderr)
        unreadable += len(bad)
    if unreadable:
        raise DataError(f"{unreadable} of {len(tagger.images)} files could not be read as images (named above)")


def main():
    (args,) = parse_arguments([Arguments])
    accelerator = Accelerator(mixed_precision=args.mixed_precision)
    tagger = Tagger(args, accelerator)
    if args.output:
        write_shards(tagger, accelerator)
    elif accelerator.is_main_process:
        print_table(tagger)


if __name__ == "__main__":
    with one_line_errors():
        main()
