"""The page as HTML: in the page's own colours, light and dark, and as wide as the screen allows."""

import json
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

MAX_NODES = 8
EDGE_FROM = 0.02  # |A - 1/2| below which no line is drawn

TEMPLATE = Path(__file__).with_name("page.html")


def page_html(name: str, names: Sequence[str], examples: Sequence[tuple[str, str]], settings: dict, note: str) -> str:
    """The page before a picture was given.

    Args:
        name: of the model.
        names: its labels.
        examples: name and address of each.
        settings: for the script.
        note: below everything.
    """
    buttons = "".join(
        f'<button type="button" class="example" data-number="{i}"><img src="{url}" alt="">'
        f"<span>{_safe(title)}</span></button>"
        for i, (title, url) in enumerate(examples)
    )
    shown = f'<div class="examples" role="group" aria-label="Examples">{buttons}</div>' if examples else ""
    return TEMPLATE.read_text(encoding="utf-8").format(
        name=_safe(name), count=len(names), titles=_safe(", ".join(names[:200])), examples=shown, note=_safe(note),
        settings=_safe(json.dumps(settings)),
    )  # fmt: skip


def association_graph(matrix: Sequence[Sequence[float]], labels: Sequence[dict]) -> str:
    """The predicted labels, or the five likeliest, as a graph whose lines are the entries of A.

    Args:
        matrix: A of the labels, `(labels, labels)`.
        labels: with `name`, `score` and `threshold`, by falling score.
    """
    nodes = [i for i, one in enumerate(labels) if one["score"] >= one["threshold"]][:MAX_NODES]
    if len(nodes) < 2:
        nodes = list(range(len(labels)))[:5]
    names = [one["name"] for one in labels]
    pairs = [(matrix[i][j], i, j) for n, i in enumerate(nodes) for j in nodes[n + 1 :]]
    pairs.sort(key=lambda pair: -abs(pair[0] - 0.5))
    places = {i: _on_circle(n, len(nodes)) for n, i in enumerate(nodes)}
    lines = "".join(_line(value, places[i], places[j], names[i], names[j]) for value, i, j in reversed(pairs))
    dots = "".join(_node(places[i], names[i], labels[i]["score"] >= labels[i]["threshold"]) for i in nodes)
    strongest = "; ".join(f"{escape(names[i])} and {escape(names[j])} {value:.2f}" for value, i, j in pairs[:3])
    box = "0 85 320 90" if len(nodes) == 2 else "0 0 320 260"
    return (
        f'<svg viewBox="{box}" role="img" aria-label="Association graph">{lines}{dots}</svg>'
        '<p class="quiet">What one label says of another: solid lines count more (A above ½), dashed ones less, none: '
        f"about half. Strongest: {strongest}.</p>"
    )


def _safe(text: str) -> str:
    """Text for HTML that is a template of Gradio's: neither markup nor a place to fill in."""
    return escape(text).replace("$", "&#36;").replace("{", "&#123;").replace("}", "&#125;")


def _on_circle(place: int, count: int) -> tuple[float, float]:
    angle = 2 * math.pi * place / count - (math.pi if count == 2 else math.pi / 2)
    return 160 + 100 * math.cos(angle), 130 + 95 * math.sin(angle)


def _line(value: float, start: tuple, end: tuple, name: str, other: str) -> str:
    strength = abs(value - 0.5)
    if strength < EDGE_FROM:
        return ""
    colour, dashes = ("var(--plus)", "") if value > 0.5 else ("var(--minus)", 'stroke-dasharray="6 5"')
    return (
        f'<line x1="{start[0]:.0f}" y1="{start[1]:.0f}" x2="{end[0]:.0f}" y2="{end[1]:.0f}" stroke="{colour}" '
        f'stroke-width="{1 + 12 * strength:.1f}" stroke-opacity="{0.35 + strength:.2f}" {dashes}>'
        f"<title>{escape(name)} and {escape(other)}: {value:.2f}</title></line>"
    )


def _node(place: tuple[float, float], name: str, predicted: bool) -> str:
    x, y = place
    shift = 24 if y > 135 else -14
    short = name if len(name) <= 16 else f"{name[:15]}…"
    fill = "var(--plus)" if predicted else "var(--quiet)"
    return (
        f'<circle cx="{x:.0f}" cy="{y:.0f}" r="8" fill="{fill}"/>'
        f'<text x="{x:.0f}" y="{y + shift:.0f}" text-anchor="middle">{escape(short)}</text>'
    )
