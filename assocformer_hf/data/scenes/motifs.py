"""The drawable motifs of the dataset `scenes`, one for each of the 20 VOC labels."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

Point = tuple[float, float]
Colour = tuple[int, ...]  # red, green, blue

DARK: Colour = (25, 25, 30)
GLASS: Colour = (190, 220, 240)


class Pen:
    """Draws on a transparent square in coordinates from 0 to 1, y downwards.

    Args:
        pixels: side of the square.
        colour: main colour of the motif.
        generator: source of what varies between two drawings of a motif.
    """

    def __init__(self, pixels: int, colour: Colour, generator: np.random.Generator):
        self.image = Image.new("RGBA", (pixels, pixels))
        self.colour = colour
        self.shade: Colour = tuple(int(0.6 * value) for value in colour)
        self.generator = generator
        self._side = pixels
        self._pencil = ImageDraw.Draw(self.image)

    def polygon(self, *points: Point, fill: Colour | None = None) -> None:
        """A filled polygon."""
        self._pencil.polygon([self._scale(*point) for point in points], fill=fill or self.colour)

    def box(self, left: float, top: float, right: float, bottom: float, fill: Colour | None = None) -> None:
        """A filled rectangle."""
        self._pencil.rectangle((*self._scale(left, top), *self._scale(right, bottom)), fill=fill or self.colour)

    def oval(self, left: float, top: float, right: float, bottom: float, fill: Colour | None = None) -> None:
        """A filled ellipse."""
        self._pencil.ellipse((*self._scale(left, top), *self._scale(right, bottom)), fill=fill or self.colour)

    def ring(self, x: float, y: float, radius: float, width: float, fill: Colour | None = None) -> None:
        """A circle's outline."""
        corners = (*self._scale(x - radius, y - radius), *self._scale(x + radius, y + radius))
        self._pencil.ellipse(corners, outline=fill or self.colour, width=self._stroke(width))

    def line(self, *points: Point, width: float, fill: Colour | None = None) -> None:
        """An open stroke."""
        self._pencil.line([self._scale(*point) for point in points], fill or self.colour, self._stroke(width), "curve")

    def vary(self, low: float, high: float) -> float:
        """A number that differs between two drawings."""
        return self.generator.uniform(low, high)

    def _scale(self, x: float, y: float) -> Point:
        return x * (self._side - 1), y * (self._side - 1)

    def _stroke(self, width: float) -> int:
        return max(round(width * self._side), 1)


def _aeroplane(pen: Pen):
    pen.oval(0.02, 0.42, 0.98, 0.60)
    pen.polygon((0.40, 0.50), (0.62, 0.50), (0.45, 0.98), (0.32, 0.98), fill=pen.shade)
    pen.polygon((0.42, 0.46), (0.62, 0.46), (0.42, 0.10), (0.32, 0.10), fill=pen.shade)
    pen.polygon((0.02, 0.50), (0.20, 0.50), (0.10, 0.24), (0.00, 0.24))
    for x in (0.5, 0.6, 0.7, 0.8):
        pen.box(x, 0.47, x + 0.04, 0.51, fill=GLASS)


def _bicycle(pen: Pen):
    for x in (0.23, 0.77):
        pen.ring(x, 0.68, 0.22, 0.05, fill=DARK)
    pen.line((0.23, 0.68), (0.38, 0.38), (0.68, 0.38), (0.48, 0.68), (0.23, 0.68), width=0.05)
    pen.line((0.38, 0.38), (0.48, 0.68), width=0.05)
    pen.line((0.77, 0.68), (0.66, 0.28), (0.80, 0.24), width=0.05)
    pen.line((0.30, 0.30), (0.46, 0.30), width=0.07, fill=DARK)


def _motorbike(pen: Pen):
    for x in (0.22, 0.78):
        pen.oval(x - 0.21, 0.50, x + 0.21, 0.92, fill=DARK)
        pen.oval(x - 0.08, 0.63, x + 0.08, 0.79, fill=(150, 150, 150))
    pen.polygon((0.10, 0.42), (0.45, 0.44), (0.60, 0.34), (0.76, 0.42), (0.62, 0.70), (0.34, 0.72))
    pen.line((0.78, 0.70), (0.66, 0.22), (0.54, 0.20), width=0.06, fill=pen.shade)
    pen.oval(0.64, 0.26, 0.80, 0.42, fill=GLASS)


def _bird(pen: Pen):
    pen.oval(0.15, 0.38, 0.75, 0.78)
    pen.oval(0.58, 0.18, 0.86, 0.46)
    pen.polygon((0.84, 0.28), (1.0, 0.34), (0.84, 0.38), fill=(240, 170, 40))
    pen.polygon((0.20, 0.54), (0.00, 0.40), (0.04, 0.66))
    lift = pen.vary(0.05, 0.35)
    pen.polygon((0.28, 0.52), (0.58, 0.52), (0.30, lift), fill=pen.shade)
    for x in (0.40, 0.52):
        pen.line((x, 0.74), (x, 0.96), width=0.04, fill=DARK)


def _boat(pen: Pen):
    pen.polygon((0.02, 0.66), (0.98, 0.66), (0.80, 0.94), (0.20, 0.94))
    pen.line((0.46, 0.66), (0.46, 0.04), width=0.05, fill=DARK)
    pen.polygon((0.50, 0.06), (0.50, 0.60), (0.90, 0.60), fill=(245, 245, 240))
    pen.polygon((0.42, 0.16), (0.42, 0.60), (0.12, 0.60), fill=pen.shade)


def _bottle(pen: Pen):
    pen.box(0.42, 0.02, 0.58, 0.12, fill=DARK)
    pen.box(0.43, 0.10, 0.57, 0.34)
    pen.polygon((0.43, 0.32), (0.57, 0.32), (0.70, 0.46), (0.30, 0.46))
    pen.box(0.30, 0.45, 0.70, 0.98)
    pen.box(0.30, 0.58, 0.70, 0.80, fill=(245, 245, 240))


def _wheels(pen: Pen, *positions: float, radius: float):
    for x in positions:
        pen.oval(x - radius, 0.92 - 2 * radius, x + radius, 0.92, fill=DARK)
        pen.oval(x - radius / 3, 0.92 - radius * 4 / 3, x + radius / 3, 0.92 - radius * 2 / 3, fill=(170, 170, 170))


def _bus(pen: Pen):
    pen.box(0.02, 0.18, 0.98, 0.80)
    for x in (0.07, 0.25, 0.43, 0.61, 0.79):
        pen.box(x, 0.26, x + 0.13, 0.48, fill=GLASS)
    pen.box(0.02, 0.58, 0.98, 0.64, fill=pen.shade)
    _wheels(pen, 0.24, 0.76, radius=0.12)


def _train(pen: Pen):
    pen.polygon((0.02, 0.18), (0.82, 0.18), (0.98, 0.52), (0.98, 0.80), (0.02, 0.80))
    for x in (0.07, 0.25, 0.43, 0.61):
        pen.box(x, 0.26, x + 0.13, 0.48, fill=GLASS)
    pen.line((0.30, 0.18), (0.42, 0.04), (0.54, 0.18), width=0.04, fill=DARK)
    _wheels(pen, 0.14, 0.32, 0.50, 0.68, 0.86, radius=0.07)
    pen.line((0.0, 0.95), (1.0, 0.95), width=0.05, fill=(120, 90, 60))


def _car(pen: Pen):
    pen.polygon((0.18, 0.54), (0.32, 0.28), (0.68, 0.28), (0.84, 0.54))
    pen.polygon((0.26, 0.53), (0.36, 0.34), (0.48, 0.34), (0.48, 0.53), fill=GLASS)
    pen.polygon((0.53, 0.53), (0.53, 0.34), (0.65, 0.34), (0.74, 0.53), fill=GLASS)
    pen.box(0.02, 0.52, 0.98, 0.80)
    _wheels(pen, 0.24, 0.76, radius=0.13)


def _quadruped(pen: Pen, leg: float, body_top: float = 0.38):
    """Body and legs; the head is at the right."""
    pen.oval(0.10, body_top, 0.76, body_top + 0.34)
    for x in (0.18, 0.28, 0.58, 0.68):
        pen.box(x, body_top + 0.24, x + 0.07, body_top + 0.30 + leg)


def _cat(pen: Pen):
    _quadruped(pen, leg=0.22, body_top=0.44)
    pen.line((0.14, 0.56), (0.03, 0.36), (0.08, 0.12), width=0.06)
    pen.oval(0.60, 0.24, 0.94, 0.56)
    pen.polygon((0.62, 0.34), (0.62, 0.08), (0.76, 0.27))
    pen.polygon((0.92, 0.34), (0.92, 0.08), (0.79, 0.27))
    for x in (0.68, 0.80):
        pen.oval(x, 0.35, x + 0.06, 0.42, fill=DARK)


def _dog(pen: Pen):
    _quadruped(pen, leg=0.26, body_top=0.42)
    pen.line((0.14, 0.50), (0.03, 0.32), width=0.06)
    pen.oval(0.56, 0.20, 0.84, 0.52)
    pen.oval(0.74, 0.34, 1.0, 0.50)
    pen.oval(0.54, 0.22, 0.66, 0.54, fill=pen.shade)
    pen.oval(0.92, 0.36, 0.99, 0.42, fill=DARK)


def _cow(pen: Pen):
    _quadruped(pen, leg=0.26)
    for x, y in ((0.20, 0.44), (0.40, 0.40), (0.54, 0.52)):
        pen.oval(x, y, x + pen.vary(0.12, 0.18), y + pen.vary(0.10, 0.14), fill=(245, 245, 240))
    pen.box(0.70, 0.28, 0.94, 0.52)
    pen.line((0.70, 0.28), (0.66, 0.14), width=0.05, fill=(230, 220, 190))
    pen.line((0.92, 0.28), (0.97, 0.14), width=0.05, fill=(230, 220, 190))
    pen.line((0.12, 0.46), (0.05, 0.72), width=0.04, fill=pen.shade)


def _horse(pen: Pen):
    _quadruped(pen, leg=0.32, body_top=0.36)
    pen.polygon((0.56, 0.44), (0.74, 0.50), (0.88, 0.16), (0.74, 0.08))
    pen.polygon((0.74, 0.08), (0.88, 0.08), (1.0, 0.28), (0.92, 0.34), (0.78, 0.24))
    pen.line((0.54, 0.40), (0.72, 0.06), width=0.08, fill=pen.shade)
    pen.line((0.12, 0.42), (0.03, 0.76), width=0.08, fill=pen.shade)


def _sheep(pen: Pen):
    wool = tuple(200 + value // 5 for value in pen.colour)
    for x in (0.22, 0.32, 0.54, 0.64):
        pen.box(x, 0.66, x + 0.06, 0.94, fill=DARK)
    for x in (0.08, 0.22, 0.36, 0.50):
        pen.oval(x, 0.28, x + 0.28, 0.56, fill=wool)
        pen.oval(x, 0.44, x + 0.28, 0.74, fill=wool)
    pen.oval(0.70, 0.30, 0.94, 0.60, fill=DARK)
    pen.oval(0.66, 0.24, 0.86, 0.40, fill=wool)


def _chair(pen: Pen):
    pen.box(0.20, 0.04, 0.32, 0.96)
    pen.box(0.20, 0.10, 0.36, 0.48, fill=pen.shade)
    pen.box(0.20, 0.50, 0.80, 0.60)
    pen.box(0.70, 0.56, 0.80, 0.96)


def _sofa(pen: Pen):
    pen.box(0.10, 0.26, 0.90, 0.62)
    pen.line((0.50, 0.28), (0.50, 0.60), width=0.03, fill=pen.shade)
    pen.box(0.10, 0.58, 0.90, 0.82, fill=pen.shade)
    for x in (0.0, 0.84):
        pen.oval(x, 0.40, x + 0.16, 0.56)
        pen.box(x, 0.48, x + 0.16, 0.86)
    for x in (0.06, 0.86):
        pen.box(x, 0.86, x + 0.08, 0.96, fill=DARK)


def _diningtable(pen: Pen):
    pen.oval(0.02, 0.30, 0.98, 0.58)
    pen.oval(0.10, 0.33, 0.90, 0.52, fill=(245, 245, 240))
    for x in (0.14, 0.78):
        pen.box(x, 0.52, x + 0.08, 0.98, fill=pen.shade)
    pen.oval(0.38, 0.37, 0.62, 0.47, fill=pen.shade)


def _person(pen: Pen):
    skin = [(240, 200, 170), (190, 140, 100), (110, 75, 50)][pen.generator.integers(3)]
    pen.oval(0.37, 0.0, 0.63, 0.26, fill=skin)
    pen.polygon((0.32, 0.27), (0.68, 0.27), (0.62, 0.62), (0.38, 0.62))
    reach = pen.vary(0.30, 0.60)
    pen.line((0.35, 0.31), (0.16, reach), width=0.09, fill=skin)
    pen.line((0.65, 0.31), (0.84, reach), width=0.09, fill=skin)
    stride = pen.vary(0.02, 0.16)
    pen.line((0.44, 0.60), (0.42 - stride, 0.98), width=0.12, fill=pen.shade)
    pen.line((0.56, 0.60), (0.58 + stride, 0.98), width=0.12, fill=pen.shade)


def _pottedplant(pen: Pen):
    leaf = (40, int(pen.vary(110, 190)), 50)
    for x, y in ((0.04, 0.22), (0.32, 0.02), (0.60, 0.22), (0.16, 0.10), (0.46, 0.10)):
        pen.oval(x, y, x + 0.34, y + 0.36, fill=leaf)
        pen.line((x + 0.17, y + 0.18), (0.50, 0.66), width=0.04, fill=(30, 80, 40))
    pen.polygon((0.26, 0.62), (0.74, 0.62), (0.66, 0.98), (0.34, 0.98), fill=(180, 90, 50))


def _tvmonitor(pen: Pen):
    pen.box(0.04, 0.10, 0.96, 0.74, fill=DARK)
    pen.box(0.10, 0.16, 0.90, 0.68)
    pen.polygon((0.16, 0.62), (0.50, 0.22), (0.64, 0.22), (0.30, 0.62), fill=GLASS)
    pen.box(0.44, 0.74, 0.56, 0.88, fill=DARK)
    pen.box(0.26, 0.86, 0.74, 0.94, fill=DARK)


MOTIFS: dict[str, Callable[[Pen], None]] = {
    "aeroplane": _aeroplane,
    "bicycle": _bicycle,
    "bird": _bird,
    "boat": _boat,
    "bottle": _bottle,
    "bus": _bus,
    "car": _car,
    "cat": _cat,
    "chair": _chair,
    "cow": _cow,
    "diningtable": _diningtable,
    "dog": _dog,
    "horse": _horse,
    "motorbike": _motorbike,
    "person": _person,
    "pottedplant": _pottedplant,
    "sheep": _sheep,
    "sofa": _sofa,
    "train": _train,
    "tvmonitor": _tvmonitor,
}
