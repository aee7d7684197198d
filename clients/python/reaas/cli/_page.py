"""A page that one can show: what was certified, with pictures; one HTML file, nothing to load."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from reaas.cli._book import Certified
from reaas.cli._charts import falling_curve, histogram, radius_grid
from reaas.cli._context import rounded
from reaas.cli._outputs import write_file
from reaas.cli._summary import curve, summary_line
from reaas.images import Pixels, as_rgb8

_SIDE = 96
_MOST_PICTURES = 2_000
"""A picture is some 5 kB: 10 MB, which a browser still opens at once."""
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#222}
h1{font-size:1.3rem} .charts{display:flex;flex-wrap:wrap;gap:1rem} figure{margin:0;flex:1 1 26rem}
svg{width:100%} svg text{font-size:11px;fill:#444} .axis{fill:none;stroke:#888}
rect{fill:#3b6ea8} polyline{fill:none;stroke:#3b6ea8;stroke-width:2} figcaption{color:#555}
.pictures{display:grid;grid-template-columns:repeat(auto-fill,minmax(9rem,1fr));gap:.8rem}
.pictures div{border:1px solid #ddd;border-radius:6px;padding:.5rem;overflow-wrap:anywhere}
.pictures img{width:96px;height:96px;object-fit:contain;image-rendering:pixelated;display:block}
.wrong{background:#fdecea} .name{font-size:.75rem;color:#666} footer{margin-top:2rem;color:#666}
"""


def thumbnail(pixels: Pixels) -> str:
    """The pixels that were sent, as a data URL of at most 96 x 96."""
    image, file = Image.fromarray(as_rgb8(pixels)), io.BytesIO()
    image.thumbnail((_SIDE, _SIDE))
    image.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


@dataclass(frozen=True)
class Page:
    """Certificates with their pictures, in one order."""

    title: str
    facts: Mapping[str, Any]
    certified: Sequence[Certified]
    thumbnails: Sequence[str]
    skipped: Mapping[str, str]

    def write(self, file: Path) -> None:
        """Writes the page. Names of files and classes are text in it, whatever they look like."""
        write_file(file, self._write)

    def _write(self, file: Path) -> None:
        file.write_text(self._html(), "utf-8")

    def _html(self) -> str:
        parts = (self._charts(), self._pictures(), self._skipped())
        return (
            '<!doctype html><html lang="en"><meta charset="utf-8">'
            f"<title>Certified radii</title><style>{_STYLE}</style><h1>{escape(self.title)}</h1>"
            f"<p>{escape(summary_line(dict(self.facts), 'this encoder'))}</p>{''.join(parts)}"
            "<footer>R: no change of the image shown, of a Euclidean length below R over all its "
            "pixels on a scale of 0 to 1, changes the label. R = 0: nothing is certified."
            "</footer></html>\n"
        )

    def _charts(self) -> str:
        radii = np.array([c.radius for c in self.certified])
        judged = [c for c in self.certified if c.truth is not None]
        grid = radius_grid(radii)
        what = "certified accuracy: right, and certified at least to R"
        shown = judged or self.certified
        if not judged:
            what = "images certified at least to R"
        line = falling_curve(grid, curve(shown, grid), "R (L2)", what)
        bars = histogram(radii, "R (L2)")
        return f'<div class="charts">{line}{bars}</div>'

    def _pictures(self) -> str:
        shown = list(zip(self.certified, self.thumbnails, strict=True))[:_MOST_PICTURES]
        cells = "".join(_cell(one, picture) for one, picture in shown)
        left = len(self.certified) - len(shown)
        more = f"<p>and {left} more, in the CSV file</p>" if left else ""
        return f'<h2>Images as they were sent</h2><div class="pictures">{cells}</div>{more}'

    def _skipped(self) -> str:
        if not self.skipped:
            return ""
        items = "".join(
            f"<li>{escape(name)} {escape(problem)}</li>" for name, problem in self.skipped.items()
        )
        return f"<h2>Skipped</h2><ul>{items}</ul>"


def _cell(one: Certified, picture: str) -> str:
    label = escape(one.label if one.label is not None else "abstains")
    if one.right is False:
        label += f", is {escape(str(one.truth))}"
    kind = ' class="wrong"' if one.right is False else ""
    return (
        f'<div{kind}><img src="{picture}" alt=""><b>{label}</b><br>R {rounded(one.radius)}'
        f'<div class="name">{escape(one.image)}</div></div>'
    )
