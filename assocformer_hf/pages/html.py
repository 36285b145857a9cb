"""What the package's pages share: one frame, one style sheet, one small script; a page needs no other file."""

import base64
import html
import io
from pathlib import Path

import datasets
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from assocformer_hf.data.images.decoding import ImageError, decode_stored, without_metadata
from assocformer_hf.wording import counted

ROOM = Path(__file__).parent
THUMBNAIL = 128  # pixels


def render(template: str, **values) -> str:
    """A whole page.

    Args:
        template: a file of this folder that extends `page.html`.
        values: what it needs; text is escaped.
    """
    environment = Environment(
        loader=FileSystemLoader(ROOM), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters |= {"percent": percent, "signed": signed, "decimals": decimals, "counted": counted}
    own = {name: Markup((ROOM / name).read_text(encoding="utf-8")) for name in ("style.css", "table.js")}
    return environment.get_template(template).render(style=own["style.css"], script=own["table.js"], **values)


def embedded_figure(figure, title: str) -> Markup:
    """A matplotlib figure as an image in the page, at the figure's own size: text stays readable, and it scrolls.

    Args:
        figure: the figure.
        title: its alternative text.
    """
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=160)
    with Image.open(file) as image:  # few colours: a third of the bytes
        file = io.BytesIO()
        image.convert("RGB").quantize(128, method=Image.Quantize.FASTOCTREE).save(file, "PNG", optimize=True)
    width = f"{figure.get_figwidth() * 80:.0f}px"
    source = data_url(file.getvalue(), "image/png")
    return Markup(f'<img class="figure" alt="{html.escape(title)}" style="width:{width}" src="{source}">')


def data_url(content: bytes, media_type: str) -> str:
    """A file as a URL that holds it."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


class Thumbnails:
    """Small pictures of a dataset's images, each read once.

    Args:
        dataset: of the schema of `multilabel_features`.
        side: of the square that they fit into, in pixels.
    """

    def __init__(self, dataset: datasets.Dataset, side: int = THUMBNAIL):
        self.dataset = dataset.cast_column("image", datasets.Image(decode=False))
        self.side = side
        self._urls: dict[int, str] = {}

    def __call__(self, index: int) -> str:
        """A data URL; empty for an image that cannot be read."""
        if index not in self._urls:
            self._urls[index] = self._read(index)
        return self._urls[index]

    def _read(self, index: int) -> str:
        try:
            image = decode_stored(self.dataset[index]["image"], index)
        except ImageError:
            return ""
        return picture_url(image, self.side)


def picture_url(image: Image.Image, side: int = THUMBNAIL) -> str:
    """A picture as the URL of a small JPEG file, without the metadata of the original."""
    image = without_metadata(image.convert("RGB"))
    image.thumbnail((side, side))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=70, optimize=True)
    return data_url(file.getvalue(), "image/jpeg")


def percent(value: float | None) -> str:
    """A fraction in percent; None is a dash."""
    return "–" if value is None else f"{100 * value:.1f}"


def signed(value: float | None) -> str:
    """A difference of fractions in points of percent, with its sign."""
    return "–" if value is None else f"{round(100 * value, 1) + 0.0:+.1f}"


def decimals(value: float) -> str:
    """Two decimals, never -0.00."""
    return f"{round(value, 2) + 0.0:.2f}"
