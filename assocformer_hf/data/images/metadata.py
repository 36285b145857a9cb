"""What the file of an image says beside its pixels."""

from PIL import Image


def without_metadata(image: Image.Image) -> Image.Image:
    """A copy that holds the pixels alone: PIL writes comments of the file that an image came from into a new one."""
    copy = image.copy()
    copy.info.clear()
    return copy
