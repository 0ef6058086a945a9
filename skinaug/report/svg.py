"""matplotlib's figures as inline SVG: the house style, text that stays text, and marks that tell what they are."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from html import escape
from io import StringIO
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

if TYPE_CHECKING:  # matplotlib takes a second to import: only when something is drawn
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#222222"
TIP = "tip:"  # starts the id of a group whose marks say something when they are pointed at
STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a $ in an arm's name is a $
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.6,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
}


def make_figure(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    """A figure of a size in inches with one pair of axes in the house style."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot()
        axes.set_title(title)
    return figure, axes


def tell(artist: Artist, texts: Sequence[str]) -> None:
    """Let a line say one text, or each of its markers one of several, when it is pointed at."""
    artist.set_gid(TIP + quote("\n".join(" ".join(text.split()) for text in texts)))


def to_svg(figure: Figure, title: str) -> str:
    """An <svg> element without names that could clash with those of another figure on the page."""
    import matplotlib

    buffer: Any = StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": title}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the reader's browser has fonts of all scripts
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", buffer.getvalue(), flags=re.DOTALL)
    svg = re.sub(r"font-family: [^;]*; ?", "", svg[svg.index("<svg") :])  # the page's is inherited
    svg = _with_tips(svg)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    width = figure.get_figwidth() * 96  # CSS pixels to the inch
    return re.sub(r'<svg height="[^"]*" ', "<svg ", _resize(svg, width)).strip()


def _with_tips(svg: str) -> str:
    """Titles for the marks of groups whose id starts with TIP: of the group, or, of several, of each marker in turn."""
    first, *rest = svg.split(f'<g id="{TIP}')
    told = [first]
    for part in rest:
        said, _, content = part.partition('">')
        titles = [f"<title>{escape(text)}</title>" for text in unquote(said).split("\n")]
        if len(titles) == 1:
            told.append(f"<g>{titles[0]}{content}")
            continue
        before, *markers = re.split(r"(?=<use )", content, maxsplit=len(titles))
        marked = [
            mark.replace("/>", f">{title}</use>", 1) for mark, title in zip(markers, titles, strict=True)
        ]
        told.append("".join(["<g>", before, *marked]))
    return "".join(told)


def _resize(svg: str, width: float) -> str:
    """Let the page scale the picture down, never up."""
    head, body = svg.split(">", 1)
    head = re.sub(r'\s(width|height|version)="[^"]*"', "", head)
    return f'{head} style="width: 100%; max-width: {width:.0f}px">{body}'
