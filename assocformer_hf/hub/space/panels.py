"""The panels of the page as HTML: in the page's own colours, light and dark, and as wide as the screen allows."""

import math
from html import escape

MAX_BARS = 10
MAX_NODES = 8
MAX_REASONS = 6
EDGE_FROM = 0.02  # |A - 1/2| below which no line is drawn
NO_ASSOCIATION = "This model has no association module."

STYLE = """
.af { --plus: #1d4ed8; --minus: #b45309; --quiet: #52525b; color: var(--body-text-color); }
.dark .af { --plus: #60a5fa; --minus: #fbbf24; --quiet: #a1a1aa; }
.af ul { list-style: none; margin: 0; padding: 0; }
.af li { display: grid; grid-template-columns: minmax(5.5rem, 30%) 1fr 3rem; gap: .6rem; align-items: center;
  margin: .3rem 0; }
.af li span { overflow-wrap: anywhere; }
.af .number { text-align: right; font-variant-numeric: tabular-nums; }
.af .track { position: relative; height: 1rem; border-radius: 3px; background: var(--border-color-primary); }
.af .bar { position: absolute; top: 0; bottom: 0; border-radius: 3px; background: var(--plus); }
.af .bar.minus { background: var(--minus); }
.af .mark { position: absolute; top: -3px; bottom: -3px; width: 2px; background: var(--body-text-color); }
.af .below { color: var(--quiet); }
.af .below .bar { background: var(--quiet); }
.af svg { display: block; width: 100%; max-width: 24rem; margin: 0 auto; }
.af svg text { fill: var(--body-text-color); font-size: 14px; paint-order: stroke; stroke-width: 4px;
  stroke: var(--body-background-fill); }
.af .note { color: var(--quiet); margin: .5rem 0; }
.af .error { border-left: 4px solid var(--minus); padding: .5rem .8rem; }
"""


def note_panel(message: str) -> str:
    """A remark in place of a panel."""
    return f'<div class="af"><p class="note">{escape(message)}</p></div>'


def error_panel(message: str) -> str:
    """What is wrong with an upload."""
    return f'<div class="af"><p class="error" role="alert">{escape(message[:1].upper() + message[1:])}.</p></div>'


def labels_panel(found: dict, names: list[str], thresholds: list[float]) -> str:
    """The predicted and the likeliest labels as bars, with their thresholds as marks."""
    ranked = sorted(zip(found["scores"].tolist(), names, thresholds, strict=True), reverse=True)
    rows, predicted = [], []
    for score, name, threshold in ranked:
        if score >= threshold:
            predicted.append(name)
        elif len(rows) >= MAX_BARS:
            continue
        track = _bar(0, score) + f'<div class="mark" style="left:{100 * threshold:.1f}%"></div>'
        rows.append(_row(name, track, f"{score:.2f}", "" if score >= threshold else "below"))
    said = ", ".join(escape(name) for name in predicted) or "no label reaches the threshold"
    return f'<div class="af"><p role="status"><b>{said}</b></p><ul>{"".join(rows)}</ul></div>'


def association_panel(found: dict, names: list[str], thresholds: list[float]) -> str:
    """The predicted labels among the likeliest as a graph whose lines are the entries of A."""
    if "association" not in found:
        return note_panel(NO_ASSOCIATION)
    names, thresholds = [names[i] for i in found["ranked"]], [thresholds[i] for i in found["ranked"]]
    scores = [found["scores"][i] for i in found["ranked"]]
    nodes = [i for i, score in enumerate(scores) if score >= thresholds[i]][:MAX_NODES]
    note = ""
    if len(nodes) < 2:
        nodes = list(range(len(scores)))[:5]
        note = "Fewer than two labels reach the threshold; these are the likeliest. "
    matrix = found["association"]
    pairs = [(matrix[i][j], i, j) for n, i in enumerate(nodes) for j in nodes[n + 1 :]]
    pairs.sort(key=lambda pair: -abs(pair[0] - 0.5))
    places = {i: _on_circle(n, len(nodes)) for n, i in enumerate(nodes)}
    lines = "".join(_line(value, places[i], places[j], names[i], names[j]) for value, i, j in reversed(pairs))
    dots = "".join(_node(places[i], names[i], scores[i] >= thresholds[i]) for i in nodes)
    strongest = "; ".join(f"{escape(names[i])} and {escape(names[j])} {value:.2f}" for value, i, j in pairs[:3])
    box = "0 85 320 90" if len(nodes) == 2 else "0 0 320 260"
    return (
        f'<div class="af"><svg viewBox="{box}" role="img" aria-label="Association graph">{lines}{dots}</svg>'
        f'<p class="note">{note}Solid lines: associated (A above ½); dashed: below ½; none: neither. '
        f"Strongest: {strongest}.</p></div>"
    )


def reason_panel(found: dict, names: list[str], label: str) -> str:
    """The labels through which a label got its logit: an identity, not an estimate."""
    if "contributions" not in found:
        return note_panel(NO_ASSOCIATION)
    place = [names[i] for i in found["ranked"]].index(label)
    through, parts = found["through"][place], found["contributions"][place]
    reach = max(map(abs, parts), default=0) or 1
    bars = []
    for j, part in zip(through, parts, strict=True):
        start, end = sorted((0.5, 0.5 + part / reach / 2))
        track = _bar(start, end, "minus" if part < 0 else "") + '<div class="mark" style="left:50%"></div>'
        bars.append(_row("itself" if names[j] == label else names[j], track, _signed(part)))
    rest, bias, logit = found["sum"][place] - sum(parts), found["bias"][place], found["logits"][place]
    picture = logit - bias - found["sum"][place]
    score = found["scores"][found["ranked"][place]]
    return (
        f'<div class="af"><p>Evidence for <b>{escape(label)}</b> ({score:.2f}) came through</p>'
        f'<ul>{"".join(bars)}</ul><p class="note">and all other labels {_signed(rest)}, its bias {_signed(bias)}, '
        f"and the picture without associations {_signed(picture)}: together the logit {_signed(logit)}.</p></div>"
    )


def _signed(value: float) -> str:
    return f"{round(value, 2) + 0.0:+.2f}"


def _row(name: str, track: str, number: str, kind: str = "") -> str:
    return (
        f'<li class="{kind}"><span>{escape(name)}</span><div class="track" aria-hidden="true">{track}</div>'
        f'<span class="number">{number}</span></li>'
    )


def _bar(start: float, end: float, kind: str = "") -> str:
    """A bar between two shares of its track."""
    return f'<div class="bar {kind}" style="left:{100 * start:.1f}%;width:{100 * (end - start):.1f}%"></div>'


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
