"""Decoding of files of every kind."""

import pickle

import numpy as np
import pytest
from PIL import Image

from assocformer_hf.data.images.decoding import ImageError, decode_image, decode_tensor
from tests.data.checks.test_check import bomb

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 36, 3), dtype=np.uint8)


def save(path, mode="RGB", **options):
    Image.fromarray(PIXELS).convert(mode).save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "RGBA", "LA"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    image = decode_image(save(tmp_path / "image.png", mode))
    expected = Image.fromarray(PIXELS).convert(mode).convert("RGB")
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), np.asarray(expected))


def test_cmyk_and_transparent_palettes(tmp_path):
    assert decode_image(save(tmp_path / "image.jpg", "CMYK")).mode == "RGB"
    assert decode_image(save(tmp_path / "image.gif", "P", transparency=3)).mode == "RGB"


def test_sixteen_bit_grey_keeps_its_upper_byte(tmp_path):
    grey = np.linspace(0, 65535, 24 * 36).reshape(24, 36).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "scan.png")
    image = np.asarray(decode_image(tmp_path / "scan.png"))
    np.testing.assert_array_equal(image[..., 0], grey >> 8)


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    image = decode_image(save(tmp_path / "photo.png", exif=exif))
    np.testing.assert_array_equal(np.asarray(image), np.rot90(PIXELS, -1))


def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size(tmp_path):
    large = Image.fromarray(PIXELS).resize((720, 480), Image.Resampling.BICUBIC)
    large.save(tmp_path / "large.jpg", quality=95)
    assert decode_image(tmp_path / "large.jpg", min_side=241).size == (720, 480)
    half = decode_image(tmp_path / "large.jpg", min_side=240)
    assert half.size == (360, 240)
    reduced = np.asarray(large.reduce(2), dtype=np.int16)
    assert np.abs(np.asarray(half, dtype=np.int16) - reduced).mean() < 2


def test_bytes_and_errors_by_name(tmp_path):
    path = save(tmp_path / "image.png")
    assert decode_image(path.read_bytes()).size == (36, 24)
    with pytest.raises(ImageError, match="shard-3/7: cannot be read as an image") as caught:
        decode_image(path.read_bytes()[:100], "shard-3/7")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.name, again.reason, str(again)) == (caught.value.name, caught.value.reason, str(caught.value))
    with pytest.raises(ImageError, match="missing.png"):
        decode_image(tmp_path / "missing.png")


def test_a_decompression_bomb_is_refused():
    with pytest.raises(ImageError, match="decompression bomb"):
        decode_image(bomb())


@pytest.mark.parametrize(("file", "mode"), [("a.jpg", "RGB"), ("a.jpg", "L"), ("a.jpg", "CMYK"), ("a.png", "P")])
@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("min_side", [None, 4])
def test_the_tensor_is_the_image(tmp_path, file, mode, orientation, min_side):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / file, mode, exif=exif)
    tensor = decode_tensor(path, min_side=min_side).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(tensor, np.asarray(decode_image(path, min_side=min_side)))
    np.testing.assert_array_equal(decode_tensor(path.read_bytes(), min_side=min_side).permute(1, 2, 0).numpy(), tensor)


def test_a_broken_jpeg_has_the_same_error_as_a_tensor(tmp_path):
    path = save(tmp_path / "photo.jpg")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ImageError, match="truncated") as of_tensor:
        decode_tensor(path)
    with pytest.raises(ImageError) as of_image:
        decode_image(path)
    assert of_tensor.value.reason == of_image.value.reason
