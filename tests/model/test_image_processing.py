"""The image processor: found by the Auto classes, and one for all kinds of input."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, ViTImageProcessor, pipeline

from assocformer_hf import AssocFormerImageProcessor
from assocformer_hf.data.images.transforms import create_image_processor
from assocformer_hf.model.image_processing_assocformer import ImageError

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 70, 3), dtype=np.uint8)


@pytest.fixture
def photo(tmp_path):
    """A JPEG file that lies on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS).save(tmp_path / "photo.jpg", exif=exif)
    return tmp_path / "photo.jpg"


def test_a_path_its_bytes_and_the_picture_are_the_same_to_it(photo):
    processor = create_image_processor(24, [0.5, 0.4, 0.3], [0.2, 0.3, 0.4])
    upright = Image.fromarray(np.rot90(np.asarray(Image.open(photo)), -1))
    expected = processor(upright, return_tensors="pt")["pixel_values"]
    assert expected.shape == (1, 3, 24, 24)
    for image in (str(photo), photo, photo.read_bytes(), Image.open(photo), np.asarray(upright)):
        assert torch.equal(processor(image, return_tensors="pt")["pixel_values"], expected)
    both = processor([photo, Image.open(photo)], return_tensors="pt")["pixel_values"]
    assert torch.equal(both, expected.expand(2, -1, -1, -1))
    pixels = processor.to_pixels(processor.decode(photo))
    assert pixels.dtype == torch.uint8
    assert torch.equal(processor(pixels, do_resize=False, return_tensors="pt")["pixel_values"], expected)


@pytest.mark.parametrize("source", ["https://example.com/cat.jpg", "nowhere.jpg", b"no image"])
def test_what_is_no_image_is_an_image_error_and_urls_are_not_fetched(source):
    with pytest.raises(ImageError, match="cannot be read as an image"):
        create_image_processor(24)(source)


def test_the_auto_class_finds_it_and_old_folders_load(tmp_path, photo):
    create_image_processor(24).save_pretrained(tmp_path / "new")
    assert (tmp_path / "new/image_processing_assocformer.py").is_file()
    old = {"size": {"height": 24, "width": 24}, "resample": 3, "do_normalize": False}
    ViTImageProcessor(**old).save_pretrained(tmp_path / "old")
    new = AutoImageProcessor.from_pretrained(tmp_path / "new")
    assert type(new) is AssocFormerImageProcessor
    assert type(AutoImageProcessor.from_pretrained(tmp_path / "old")) is ViTImageProcessor
    loaded = AssocFormerImageProcessor.from_pretrained(tmp_path / "old")
    expected = new(photo, return_tensors="pt")["pixel_values"]
    assert torch.equal(loaded(photo, return_tensors="pt")["pixel_values"], expected)


def test_a_pipeline_asks_nothing_where_the_package_is_installed(create_model, tmp_path, monkeypatch, capsys):
    create_model().save_pretrained(tmp_path)
    create_image_processor(64).save_pretrained(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    tagger = pipeline("image-classification", model=str(tmp_path))
    assert type(tagger.image_processor) is AssocFormerImageProcessor
    assert "custom code" not in capsys.readouterr().out
    assert len(tagger(Image.fromarray(PIXELS))) == 4


def test_transparency_is_dropped_however_a_picture_comes():
    processor = create_image_processor(24)
    pixels = np.full((30, 40, 4), [200, 10, 20, 0], np.uint8)
    expected = processor(Image.fromarray(pixels), return_tensors="pt")["pixel_values"]
    assert expected[0, 0].mean() == pytest.approx(200 / 255)
    for given in (pixels, torch.from_numpy(pixels).permute(2, 0, 1)):
        torch.testing.assert_close(processor(given, return_tensors="pt")["pixel_values"], expected)
    low = np.random.default_rng(0).integers(0, 256, (4, 50, 3), dtype=np.uint8)  # four rows, no fourth channel
    expected = processor(Image.fromarray(low), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(processor(low, return_tensors="pt")["pixel_values"], expected)


def test_an_array_of_few_rows_has_its_channels_last():
    strip = np.random.default_rng(0).integers(0, 255, (3, 500, 3), np.uint8)
    processor = AssocFormerImageProcessor(size={"height": 32, "width": 32})
    expected = processor(Image.fromarray(strip), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(processor(strip, return_tensors="pt")["pixel_values"], expected)


def test_a_grey_array_is_a_grey_picture():
    processor, grey = create_image_processor(24), np.arange(600, dtype=np.uint16).reshape(20, 30).astype(np.uint8)
    expected = processor(Image.fromarray(grey), return_tensors="pt")["pixel_values"]
    assert expected.shape == (1, 3, 24, 24)
    for given in (grey, torch.from_numpy(grey), [grey], grey[..., None]):
        torch.testing.assert_close(processor(given, return_tensors="pt")["pixel_values"], expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint16, np.int32])
def test_values_of_another_range_are_refused_and_not_scaled_as_bytes(dtype):
    array = np.ones((8, 8, 3), dtype)
    for image in (array, torch.from_numpy(array.copy())):
        with pytest.raises(ImageError, match="values must be uint8, 0 to 255, not "):
            create_image_processor(8)(image, return_tensors="pt")
