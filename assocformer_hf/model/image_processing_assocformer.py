"""From any image to the model's input: the one way of training, evaluation, inference and serving."""

import io
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor
from transformers import ViTImageProcessor
from transformers.image_utils import ChannelDimension, PILImageResampling

# Not all that PIL reads: some formats start other programs, and all of them are places where parsers can fail.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
MAX_PIXELS = 178_956_970  # twice what PIL thinks safe, where PIL itself refuses
MAX_SIDE = 65_535  # pixels; also JPEG's
WIDE_GREY = ("I", "I;16", "I;16L", "I;16B", "I;16N")
WIDE_FORMATS = ("PNG", "PPM")  # whose 16 bits PIL may hold in 32, the mode I


class ImageError(ValueError):
    """A file that cannot be read as an image.

    Attributes:
        name: the file.
        reason: what is wrong with it.
        too_large: whether it has more pixels than may be decoded.
    """

    name: str
    reason: str
    too_large: bool

    @classmethod
    def of(cls, name: str, reason: str, too_large: bool = False) -> "ImageError":
        """The error of a file; loaders that pass errors on make a new one, of its message alone."""
        error = cls(f"{name}: cannot be read as an image ({reason}); replace it or leave it out")
        error.name, error.reason, error.too_large = name, reason, too_large
        return error


def open_image(
    source: str | Path | bytes | Image.Image, name: str | None = None, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Opens an image of the formats [`FORMATS`], whose pixels are not decoded yet.

    Args:
        source: path of the file, its content, or a PIL image.
        name: what an error calls it; default: the path.
        max_pixels: how many pixels it may have; a side may have 65,535.

    Raises:
        ImageError: if the file is missing, no image, of another format, empty, or too large.
    """
    name = name or (str(source) if isinstance(source, (str, Path)) else "image")
    try:
        if isinstance(source, Image.Image):
            image = source
        else:
            Image.init()
            known = [one for one in FORMATS if one in Image.OPEN]  # a build of PIL may lack one
            file = io.BytesIO(source) if isinstance(source, (bytes, bytearray)) else source
            image = Image.open(file, formats=known)
    except UnidentifiedImageError as error:
        raise ImageError.of(name, f"not an image, or of a format other than {', '.join(FORMATS)}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError.of(name, _one_line(error), too_large=True) from error
    except Exception as error:  # of any kind: PIL's readers do not catch what damaged files do to them
        raise ImageError.of(name, _one_line(error)) from error
    size = f"{image.width:,} x {image.height:,} pixels"
    if not min(image.size):
        raise ImageError.of(name, f"{size}: nothing to see")
    if image.width * image.height > max_pixels or max(image.size) > MAX_SIDE:
        limits = f"{max_pixels:,} pixels and {MAX_SIDE:,} a side"
        raise ImageError.of(name, f"{size}, which is more than {limits}", too_large=True)
    return image


def decode_image(
    source: str | Path | bytes | Image.Image, name: str | None = None, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Decodes an image: upright by its EXIF orientation, first frame, RGB.

    Transparency is dropped, 16-bit grey values keep their upper byte, CMYK is converted.

    Args and errors: those of [`open_image`]; an image that is damaged raises `ImageError`, whatever the damage.
    """
    image = open_image(source, name, max_pixels)
    try:
        with nullcontext() if image is source else image:
            image.load()
        image_format = image.format
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            image = ImageOps.exif_transpose(image)
        return _to_rgb(image, image_format)
    except Exception as error:  # of any kind, as above
        name = name or (str(source) if isinstance(source, (str, Path)) else "image")
        raise ImageError.of(name, _one_line(error)) from error


def _to_rgb(image: Image.Image, image_format: str | None) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode == "I" and image_format not in WIDE_FORMATS:
        values = np.asarray(image)
        lowest, highest = values.min(), values.max()
        if lowest < 0 or not 255 < highest <= 65535:
            raise ValueError(f"pixels are 32-bit numbers from {lowest} to {highest}, no 16-bit grey; save 8 or 16 bits")
    if image.mode in WIDE_GREY:
        # PIL would clip the values at 255.
        return Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("pixels are floating-point numbers of no known range")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _opaque(image: np.ndarray | Tensor) -> np.ndarray | Tensor:
    """An array or tensor without its fourth channel, as pictures lose their transparency."""
    if image.ndim == 3 and image.shape[0] == 4 and image.shape[2] not in (3, 4):  # else four rows of pixels
        return image[:3]
    return image[..., :3] if image.ndim == 3 and image.shape[0] not in (1, 3) and image.shape[2] == 4 else image


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


class AssocFormerImageProcessor(ViTImageProcessor):
    """The image processor of AssocFormer: every image as [`decode_image`] gives it, resized to a square.

    Its values are in [0, 1], and, with `do_normalize`, then normalised as the backbone's pretraining did.

    It takes what transformers' processors take, and paths and the contents of files as bytes. A folder that was saved
    with a `ViTImageProcessor` loads as well. Nothing is cropped, as that would cut off labelled objects.

    The arguments are those of transformers' processors; what differs from `ViTImageProcessor` is that the paper's
    recipe has no normalisation, and that resizing is bicubic.
    """

    resample = PILImageResampling.BICUBIC
    size = {"height": 384, "width": 384}
    do_convert_rgb = True
    do_normalize = False
    image_mean = None
    image_std = None

    def decode(
        self, source: str | Path | bytes | Image.Image, name: str | None = None, max_pixels: int = MAX_PIXELS
    ) -> Image.Image:
        """[`decode_image`], for code that has the processor and not the package."""
        return decode_image(source, name, max_pixels)

    def to_pixels(self, image: Image.Image | Tensor) -> Tensor:
        """An image in the model's size, `(3, height, width)` in uint8: all steps up to the scaling of the values.

        `processor(pixels, do_resize=False)` does the rest, for a batch at once and where the model is.
        """
        return self.resize(self.process_image(image, do_convert_rgb=True), self.size, self.resample)

    def to_dict(self) -> dict:
        """What is saved."""
        # Without a type of videos, pipelines of transformers take the code of this class for that of a video processor,
        # and ask whether it may be run, though the package is installed.
        return super().to_dict() | {"video_processor_type": "none"}

    def fetch_images(self, images: Any) -> Any:
        """Decodes paths and bytes; transformers' processors call it first. URLs are not fetched."""
        if isinstance(images, (list, tuple)):
            return [self.fetch_images(image) for image in images]
        if isinstance(images, (np.ndarray, Tensor)) and images.ndim == 2:
            return images[..., None]  # grey
        return decode_image(images) if isinstance(images, (str, Path, bytes)) else super().fetch_images(images)

    def process_image(self, image, *args, device: torch.device | None = None, **kwargs) -> Tensor:
        """An image as a tensor `(3, height, width)`; transformers' processors call it for each."""
        if isinstance(image, Image.Image):
            # Its channels stay side by side in memory, which torch resizes several times faster.
            return pil_to_tensor(decode_image(image)).to(device)
        if image.dtype not in (np.uint8, torch.uint8):
            raise ImageError.of("image", f"values must be uint8, 0 to 255, not {image.dtype}: convert the image first")
        image = _opaque(image)
        # `_opaque` left no fourth channel, and arrays have their channels last: these are rows of pixels.
        rows = (1, 3, 4) if isinstance(image, np.ndarray) and image.shape[-1] == 3 else (4,)
        if image.ndim == 3 and image.shape[0] in rows and kwargs.get("input_data_format") is None:
            kwargs["input_data_format"] = ChannelDimension.LAST
        return super().process_image(image, *args, device=device, **kwargs).expand(3, -1, -1)  # grey has one channel


AssocFormerImageProcessor.register_for_auto_class()
