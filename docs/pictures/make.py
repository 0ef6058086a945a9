"""The pictures of docs/report.md: parts of reports, each from its heading to the next.

    python docs/pictures/make.py <report.html> <file>="<heading>" ...

Charts are files.png, pictures of skin are files.jpg. It takes Playwright and a Chromium, as the tests of the report's page do. Never of real photographs: of studies on phantoms alone.
"""

from __future__ import annotations

import shutil
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

FOLDER = Path(__file__).parent
WIDTH = 1020  # pixels
COLOURS = 256  # of a palette
QUALITY = 80  # of a JPEG
WAIT = 300_000  # milliseconds, on a busy machine
MOST = 1040  # pixels high: rows below are left out
BOX = """([heading, most]) => {
  const all = [...document.querySelectorAll('h2, h3')];
  const place = all.findIndex(one => one.textContent.trim() === heading);
  if (place < 0) throw new Error('no heading ' + heading);
  const next = all.slice(place + 1).find(one => one.tagName <= all[place].tagName);
  const top = all[place].getBoundingClientRect().top;
  const end = next ? next.getBoundingClientRect().top : document.body.scrollHeight - scrollY;
  if (end - top <= most) return [top + scrollY, end - top];
  const ends = [...document.querySelectorAll('tr, p, figure, div.strip')].map(one => one.getBoundingClientRect().bottom - top);
  return [top + scrollY, Math.max(...ends.filter(height => height <= most))];
}"""


def picture(page: Page, heading: str) -> Image.Image:
    """A part of the report. Raises playwright.Error where it has no such heading."""
    top, height = page.evaluate(BOX, [heading, MOST])
    clip = {"x": 0, "y": top, "width": WIDTH, "height": height}
    return Image.open(BytesIO(page.screenshot(clip=clip, full_page=True))).convert("RGB")


def few_colours(chart: Image.Image) -> Image.Image:
    """With its most frequent colours alone, so that an arm's own colour stays what it is."""
    pixels = np.asarray(chart)
    colours, place, count = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True, return_counts=True)
    kept = colours[np.argsort(-count)[:COLOURS]]
    nearest = ((colours[:, None].astype(int) - kept) ** 2).sum(2).argmin(1).astype(np.uint8)
    drawn = Image.fromarray(nearest[place].reshape(pixels.shape[:2]), "P")
    drawn.putpalette(kept.ravel().tolist())
    return drawn


def main(report: str, *parts: str) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 1000})
        page.set_default_timeout(WAIT)
        page.goto(Path(report).resolve().as_uri())
        for file, _, heading in (part.partition("=") for part in parts):
            drawn = picture(page, heading)
            if file.endswith(".png"):
                drawn = few_colours(drawn)
            drawn.save(FOLDER / file, optimize=True, quality=QUALITY)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
