"""Image files to upright RGB images: the same in training, evaluation and inference."""

import io
from pathlib import Path
from struct import error as StructError

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms.v2.functional import pil_to_tensor

from assocformer_hf.data.schema import DataError

BROKEN = (OSError, SyntaxError, ValueError, EOFError, StructError, Image.DecompressionBombError)


class ImageError(DataError):
    """A file that cannot be read as an image.

    Attributes:
        name: the file.
        reason: what is wrong with it.
    """

    name: str
    reason: str

    @classmethod
    def of(cls, name: str, reason: str) -> "ImageError":
        """The error of a file; loaders that pass errors on make a new one, of its message alone."""
        error = cls(f"{name}: cannot be read as an image ({reason}); replace it or leave it out")
        error.name, error.reason = name, reason
        return error


def decode_image(source: str | Path | bytes, name: str | None = None, min_side: int | None = None) -> Image.Image:
    """Decodes an image: upright by its EXIF orientation, first frame, RGB.

    Transparency is dropped, 16-bit grey values keep their upper byte, CMYK is converted.

    Args:
        source: path of the file, or its content.
        name: what an error calls it; default: the path.
        min_side: a side in pixels that suffices. A JPEG file that is at least twice as large is decoded at the half,
            quarter or eighth of its size, which is several times faster.

    Raises:
        ImageError: if the file is missing, broken, no image, or so large that it must be an attack (more than twice
            `PIL.Image.MAX_IMAGE_PIXELS`).
    """
    name = name or (str(source) if not isinstance(source, bytes) else "image")
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            if min_side is not None:
                image.draft(None, (min_side, min_side))
            return _to_rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as error:
        raise ImageError.of(name, "not an image, or of an unknown format") from error
    except BROKEN as error:
        raise ImageError.of(name, " ".join(str(error).split()) or type(error).__name__) from error


def decode_tensor(source: str | Path | bytes, name: str | None = None, min_side: int | None = None) -> Tensor:
    """The image of [`decode_image`] as a uint8 tensor `(3, height, width)`; most JPEG files never become a PIL image.

    Args and errors: those of [`decode_image`].
    """
    try:
        content = source if isinstance(source, bytes) else Path(source).read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            plain = image.format == "JPEG" and image.mode in ("RGB", "L")
            upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
            if plain and upright and not (min_side and min(image.size) >= 2 * min_side):
                # The values are PIL's: both decode by libjpeg-turbo.
                return decode_jpeg(torch.frombuffer(bytearray(content), dtype=torch.uint8), ImageReadMode.RGB)
    except (*BROKEN, RuntimeError):
        pass  # PIL says better what is wrong
    return pil_to_tensor(decode_image(source, name, min_side))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "I;16", "I;16L", "I;16B", "I;16N"):
        # PIL would clip the values at 255.
        return Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("pixels are floating-point numbers of no known range")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")
