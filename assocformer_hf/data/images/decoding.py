"""The images of datasets, decoded as the model's image processor does it, and freed of what their files say beside."""

from collections.abc import Mapping

from PIL import Image

from assocformer_hf.model.image_processing_assocformer import FORMATS, ImageError, decode_image, open_image

__all__ = [
    "IMAGE_SUFFIXES", "OR_SKIP", "OTHER_SUFFIXES", "ImageError", "decode_image", "decode_stored", "open_image",
    "stored_content", "stored_name", "without_metadata",
]  # fmt: skip

Image.init()
# Endings of the files that are taken for images, such as ".jpg".
IMAGE_SUFFIXES = frozenset(suffix for suffix, kind in Image.registered_extensions().items() if kind in FORMATS)
# Endings of photographs of other formats: taken for images too, so that they are named as unreadable, not passed over.
OTHER_SUFFIXES = frozenset((
    ".heic", ".heif", ".hif", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2",
))  # fmt: skip
OR_SKIP = ", or skip such images (option bad_images: skip)"  # what errors of whole datasets add


def stored_name(stored: Mapping | None, index: int) -> str:
    """What to call an image of a dataset: its file, or its number."""
    return (stored or {}).get("path") or f"image {index} of the dataset"


def stored_content(stored: Mapping | None, name: str) -> str | bytes:
    """The file of a row of a dataset whose images are not decoded, or the file's content where that is embedded.

    Raises:
        ImageError: if the row has no image.
    """
    content = None
    if stored is not None:
        content = stored.get("path") if stored.get("bytes") is None else stored["bytes"]
    if content is None:
        raise ImageError.of(name, "no image")
    return content


def decode_stored(stored: Mapping | None, index: int) -> Image.Image:
    """The image of a row of a dataset whose images are not decoded: see [`decode_image`].

    Args:
        stored: its `bytes`, or the `path` of the file; None where the row has no image.
        index: the row, for errors.

    Raises:
        ImageError: if it cannot be read.
    """
    name = stored_name(stored, index)
    return decode_image(stored_content(stored, name), name)


def without_metadata(image: Image.Image) -> Image.Image:
    """A copy that holds the pixels alone: PIL writes comments of the file that an image came from into a new one."""
    copy = image.copy()
    copy.info.clear()
    return copy
