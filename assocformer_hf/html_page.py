"""The frame that the package's reports share: one page of HTML that needs no other file."""

import base64
import html
import io
import textwrap

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; } td, th { padding: .15em .9em .15em 0; text-align: left; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; } img { max-width: 100%; }
tr:nth-child(even) { background: #f4f6f8; } .bad { color: #b00020; font-weight: 600; } summary { cursor: pointer; }
"""


def page(title: str, body: str, style: str = "") -> str:
    """A whole page.

    Args:
        title: text.
        body: HTML.
        style: CSS beside that of all reports.
    """
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}{style}</style></head><body>{body}</body></html>"
    )


def embedded_figure(figure, title: str, dpi: int = 110, width: str = "") -> str:
    """A matplotlib figure as an image in the page.

    Args:
        figure: the figure.
        title: its alternative text.
        dpi: pixels for each inch of the figure.
        width: CSS width, where it shall not be the image's own.
    """
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi)
    style = f' style="width:{width};max-width:none"' if width else ""
    return f'<img alt="{html.escape(title)}"{style} src="{data_url(file.getvalue(), "image/png")}">'


def data_url(content: bytes, media_type: str) -> str:
    """A file as a URL that holds it."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def plot_name(name: str, length: int = 30) -> str:
    """A label's name as matplotlib shows it: `$` would begin a formula."""
    return textwrap.shorten(name, length, placeholder="…").replace("$", r"\$")
