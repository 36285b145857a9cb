"""Figures with names in any language, as far as the installed fonts have their characters.

Import it where a figure is made: it loads matplotlib.
"""

import logging
import warnings

from matplotlib import rcParams
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.text import Text

logger = logging.getLogger(__name__)
# In this order they give the characters that matplotlib's own font lacks. Fonts of coloured emoji cannot be drawn.
FALLBACKS = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans", "Noto Emoji", "WenQuanYi Zen Hei", "Hiragino Sans",
    "PingFang SC", "Arial Unicode MS", "Yu Gothic", "Microsoft YaHei", "Malgun Gothic", "Segoe UI Emoji",
)  # fmt: skip
SHOWN = 10  # characters that a line names


def names_figure(**options) -> Figure:
    """A figure that takes the characters its font lacks from others that are installed, and says once what none has.

    Args:
        options: of matplotlib's `Figure`, such as `figsize`.
    """
    return _NamesFigure(**options)


class _NamesFigure(Figure):
    """See `names_figure`."""

    _said: set[str] = set()  # of all figures: many have the same names, and are drawn several times

    def draw(self, renderer):
        """As matplotlib does it, whatever the figure is written to."""
        installed = {font.name for font in fontManager.ttflist}
        families = [*rcParams["font.family"], *(name for name in FALLBACKS if name in installed)]
        fonts = [get_font(findfont(FontProperties(family=[name]))) for name in families]
        characters = set()
        for text in self.findobj(Text):
            text.set_fontfamily(families)
            characters.update(filter(str.isprintable, text.get_text()))
        missing = {one for one in characters if not any(font.get_char_index(ord(one)) for font in fonts)}
        if new := sorted(missing - self._said):
            self._said.update(new)
            logger.warning(
                "no font in use has %s, so that figures show boxes; install one, such as Noto Sans CJK or Noto Emoji",
                "".join(new[:SHOWN]) + "…" * (len(new) > SHOWN),
            )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from")  # one for each character, at each drawing
            super().draw(renderer)
