"""Decoding of files of every kind."""

import io
import pickle
import sys
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from assocformer_hf.data.images.decoding import IMAGE_SUFFIXES, ImageError, decode_image
from assocformer_hf.model.image_processing_assocformer import FORMATS
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
    with Image.open(tmp_path / "scan.png") as scan:
        scan.convert("I").save(tmp_path / "scan.ppm")  # the only other format that PIL may hold as mode I
    np.testing.assert_array_equal(np.asarray(decode_image(tmp_path / "scan.ppm"))[..., 0], grey >> 8)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (PIXELS[..., 0].astype(np.int32), "pixels are 32-bit numbers from 0 to 255, no 16-bit grey"),
        (PIXELS[..., 0].astype(np.int32) - 9, "from -9 to 246, no 16-bit grey"),
        (PIXELS[..., 0].astype(np.int32) * 1000, "from 0 to 255000, no 16-bit grey"),
        (PIXELS[..., 0].astype(np.float32), "pixels are floating-point numbers of no known range"),
    ],
)
def test_pixels_of_no_known_range_are_refused(tmp_path, values, message):
    Image.fromarray(values).save(tmp_path / "depth.tif")
    with pytest.raises(ImageError, match=f"depth.tif.*{message}"):
        decode_image(tmp_path / "depth.tif")


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    image = decode_image(save(tmp_path / "photo.png", exif=exif))
    np.testing.assert_array_equal(np.asarray(image), np.rot90(PIXELS, -1))


def test_a_large_jpeg_is_decoded_whole(tmp_path):
    large = Image.fromarray(PIXELS).resize((720, 480), Image.Resampling.BICUBIC)
    large.save(tmp_path / "large.jpg", quality=95)
    expected = np.asarray(Image.open(tmp_path / "large.jpg"))
    np.testing.assert_array_equal(np.asarray(decode_image(tmp_path / "large.jpg")), expected)


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
    with pytest.raises(ImageError, match="decompression bomb") as caught:
        decode_image(bomb())
    assert caught.value.too_large


def test_the_limit_of_pixels_and_of_sides_is_checked_before_decoding(tmp_path):
    path = save(tmp_path / "image.png")
    assert decode_image(path, max_pixels=24 * 36).size == (36, 24)
    for source in (path, path.read_bytes(), Image.open(path)):
        with pytest.raises(ImageError, match="36 x 24 pixels, which is more than 863 pixels") as caught:
            decode_image(source, max_pixels=24 * 36 - 1)
        assert caught.value.too_large
    Image.new("1", (65_536, 1)).save(tmp_path / "line.png")
    with pytest.raises(ImageError, match="65,536 x 1 pixels, which is more than .* 65,535 a side"):
        decode_image(tmp_path / "line.png")


def test_a_picture_in_memory_is_decoded_like_its_file_and_left_as_it_is(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    path = save(tmp_path / "photo.jpg", "L", exif=exif)
    picture = Image.open(path)
    np.testing.assert_array_equal(np.asarray(decode_image(picture)), np.asarray(decode_image(path)))
    assert (picture.mode, picture.size, picture.getexif()[0x0112]) == ("L", (36, 24), 8)


def test_only_the_listed_formats_are_opened_whatever_the_name_says(tmp_path, started):
    Image.fromarray(PIXELS).save(tmp_path / "cute_cat.eps")
    (tmp_path / "cute_cat.eps").rename(tmp_path / "cute_cat.jpg")
    with pytest.raises(ImageError, match="not an image, or of a format other than JPEG, PNG"):
        decode_image(tmp_path / "cute_cat.jpg")
    assert started == []
    assert {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2"} <= IMAGE_SUFFIXES
    assert IMAGE_SUFFIXES.isdisjoint({".pdf", ".ps", ".eps", ".h5", ".hdf", ".mpg", ".mpeg", ".wmf", ".grib", ".fits"})


STARTS = ("subprocess.Popen", "os.system", "os.posix_spawn", "os.fork", "os.exec", "os.spawn", "os.startfile")
_started: list[str] | None = None


def _record(event, arguments):
    if _started is not None and event.startswith(STARTS):
        _started.append(f"{event} {arguments}")


sys.addaudithook(_record)


@pytest.fixture
def started():
    """The processes that the test starts."""
    global _started
    _started = []
    yield _started
    _started = None


def written_formats() -> dict[str, list[bytes]]:
    """Small pictures in every format that PIL writes, also those that are not read, by the format's name."""
    Image.init()
    found = {}
    for kind in sorted(Image.SAVE):
        for mode in ("RGB", "L", "P", "1", "CMYK", "LA", "I;16", "F"):
            file = io.BytesIO()
            try:
                Image.fromarray(PIXELS).convert("L" if mode == "I;16" else mode).convert(mode).save(file, kind)
            except (OSError, ValueError, KeyError, TypeError, NotImplementedError):
                continue  # the format has no such mode, or writes to files only
            found.setdefault(kind, []).append(file.getvalue())
    return found


def damaged(content: bytes, generator: np.random.Generator) -> bytes:
    """The content with bytes changed, cut out or put in, mostly near its beginning, where the header is."""
    damage = bytearray(content)
    for _ in range(generator.integers(1, 5)):
        reach = len(damage) if generator.random() < 0.5 else min(len(damage), 64)
        at = int(generator.integers(0, reach + 1))
        damage[at : at + int(generator.integers(0, 9))] = generator.bytes(int(generator.integers(0, 9)))
    return bytes(damage[: generator.integers(0, len(damage) + 1)] if generator.random() < 0.2 else damage)


@pytest.mark.filterwarnings("ignore")  # PIL warns of what it repairs
def test_five_thousand_damaged_files_are_images_or_image_errors_and_start_nothing(started):
    formats = written_formats()
    assert set(FORMATS) | {"EPS", "PDF", "SPIDER", "ICO", "TGA"} <= formats.keys()
    generator, outcomes, lines = np.random.default_rng(0), Counter(), 0
    for i in range(5000):
        kinds = FORMATS if i % 2 else list(formats)
        kind = kinds[i // 2 % len(kinds)]
        content = damaged(formats[kind][int(generator.integers(len(formats[kind])))], generator)
        try:
            image = decode_image(content, max_pixels=10**6)
        except ImageError as error:
            outcomes["refused"] += 1
            lines = max(lines, len(str(error).splitlines()))
        else:
            assert image.mode == "RGB"
            assert image.width * image.height <= 10**6
            outcomes[kind] += 1
    assert started == []
    assert lines == 1
    assert outcomes["refused"] > 2000
    assert {kind for kind in outcomes if kind != "refused"} <= set(formats)
    assert sum(outcomes[kind] for kind in FORMATS) > 300
