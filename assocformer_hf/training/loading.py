"""The loaders of the training images: from the disk, or from a stream of which each process reads its own part."""

from collections.abc import Mapping

from accelerate import Accelerator
from accelerate.data_loader import DataLoaderShard
from torch.utils.data import BatchSampler, DataLoader

from assocformer_hf.data.images.dataset import MultiLabelImages
from assocformer_hf.data.images.streaming import StreamedImages
from assocformer_hf.training.arguments import RecipeArguments
from assocformer_hf.training.sampling import ShuffledSampler, StreamOrder

HEAD_START_IMAGES = 20_000  # of a stream: their features are in memory


def training_loader(
    images: MultiLabelImages, recipe: RecipeArguments, accelerator: Accelerator, loading: Mapping
) -> tuple[DataLoader, ShuffledSampler | StreamOrder]:
    """The loader of an epoch's batches, prepared by the accelerator, and the order that it follows.

    Args:
        images: to train on.
        recipe: batch size and seed.
        accelerator: device and processes.
        loading: further arguments of the loader.
    """
    if isinstance(images, StreamedImages):
        order = StreamOrder(images, recipe.seed, accelerator.num_processes, accelerator.process_index)
        return _of_stream(images, BatchSampler(order, recipe.batch_size, drop_last=True), accelerator, loading), order
    order = ShuffledSampler(len(images), recipe.seed)
    loader = DataLoader(images, recipe.batch_size, sampler=order, drop_last=True, **loading)
    return accelerator.prepare(loader), order


def head_start_loader(
    images: MultiLabelImages, recipe: RecipeArguments, accelerator: Accelerator, loading: Mapping
) -> DataLoader:
    """The loader of the images that the head starts on: all, or 20,000 of a stream; see [`training_loader`]."""
    batch_size = 2 * recipe.batch_size
    if isinstance(images, StreamedImages):
        processes = accelerator.num_processes
        order = StreamOrder(images, recipe.seed, processes, accelerator.process_index, HEAD_START_IMAGES)
        return _of_stream(images, BatchSampler(order, batch_size, drop_last=False), accelerator, loading)
    return accelerator.prepare(DataLoader(images, batch_size, **loading))


def _of_stream(
    images: StreamedImages, batches: BatchSampler, accelerator: Accelerator, loading: Mapping
) -> DataLoaderShard:
    """As the accelerator prepares a loader, which would have each process read the parts of all others too."""
    return DataLoaderShard(images, accelerator.device, batch_sampler=batches, _drop_last=True, **loading)
