"""Codes as pictures that the scanner of a till reads: a QR code, or Code 128 for lasers that read no QR.

Dark on light with a quiet zone all around, and so wide that a phone shows them whole. A library draws the modules, the
smallest squares or bars; it is loaded with the first picture.
"""

from __future__ import annotations

from html import escape
from io import BytesIO
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from serving.incentives.incentive import CodePicture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

WIDTH_PX = 320
"""Most of a picture, CSS pixels: a phone of 360 has 328 between the margins of the page."""

# Of the length of bars: a line must cross all of them, from a hand that is not steady.
_BARS_HEIGHT = 0.25
_SQUARE_PX = 240
_STROKE_PX = 20
# On a square of 12 by 12.
_TICK = ((2, 6), (5, 9), (10, 3))
_CROSS = (((3, 3), (9, 9)), ((3, 9), (9, 3)))


def as_svg(picture: CodePicture, code: str, label: str) -> str:
    """The picture as an element of a page.

    Args:
        picture: How it is drawn.
        code: What the scanner reads.
        label: Its accessible name.
    """
    rows = _modules(picture, code)
    width = len(rows[0])
    height = _height(picture, width)
    tall = height // len(rows)
    path = "".join(
        f"M{x} {y * tall}h{n}v{tall}h-{n}z" for y, row in enumerate(rows) for x, n in _dark_runs(row)
    )
    # Half pixels are whole ones on the screens of phones.
    scale = max(2 * WIDTH_PX // width, 1) / 2
    return (
        f'<svg role="img" aria-label="{escape(label)}" viewBox="0 0 {width} {height}" width="{width * scale:g}" '
        f'height="{height * scale:g}" shape-rendering="crispEdges"><path fill="#fff" d="M0 0h{width}v{height}h-{width}z"/>'
        f'<path fill="#000" d="{path}"/></svg>'
    )


def as_png(picture: CodePicture, code: str) -> bytes:
    """The picture as a file."""
    from PIL import Image

    rows = _modules(picture, code)
    width = len(rows[0])
    scale = max(WIDTH_PX // width, 1)
    modules = Image.frombytes("L", (width, len(rows)), b"".join(rows))
    size = (width * scale, _height(picture, width) * scale)
    return _png(modules.resize(size, Image.Resampling.NEAREST))


def tick_png() -> bytes:
    """In the place of a code that was redeemed: a tick."""
    return _strokes_png([_TICK])


def cross_png() -> bytes:
    """In the place of a code that is not good any more: a cross."""
    return _strokes_png(_CROSS)


def _modules(picture: CodePicture, code: str) -> list[bytes]:
    """Rows from above, a byte a module: 0 is dark, 255 light; of bars one row."""
    import zxingcpp

    made = (
        zxingcpp.create_barcode(code, zxingcpp.BarcodeFormat.QRCode, ec_level="M")
        if picture is CodePicture.QR
        else zxingcpp.create_barcode(code, zxingcpp.BarcodeFormat.Code128)
    )
    pixels = np.asarray(made.to_image())
    return [row.tobytes() for row in (pixels if picture is CodePicture.QR else pixels[:1])]


def _height(picture: CodePicture, width: int) -> int:
    return width if picture is CodePicture.QR else round(width * _BARS_HEIGHT)


def _dark_runs(row: bytes) -> list[tuple[int, int]]:
    """Where dark modules begin, and how many follow each other."""
    runs, x = [], 0
    for level, same in groupby(row):
        n = len(list(same))
        if level == 0:
            runs.append((x, n))
        x += n
    return runs


def _strokes_png(strokes: Sequence[Sequence[tuple[int, int]]]) -> bytes:
    from PIL import Image, ImageDraw

    square = Image.new("L", (_SQUARE_PX, _SQUARE_PX), 255)
    for stroke in strokes:
        points = [(x * _SQUARE_PX / 12, y * _SQUARE_PX / 12) for x, y in stroke]
        ImageDraw.Draw(square).line(points, fill=0, width=_STROKE_PX, joint="curve")
    return _png(square)


def _png(image: Image) -> bytes:
    file = BytesIO()
    image.convert("1").save(file, "png", optimize=True)
    return file.getvalue()
