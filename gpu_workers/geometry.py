"""Geometry: how large a picture is shown, how it is turned, and what fits where. Sizes are (width, height) in pixels.

One set of rules for every engine: square pixels, turned as the display matrix says, never larger than the source, even
sizes (chroma of 4:2:0 is half as large, and the GPU's filters lose the last column of odd ones).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

Size = tuple[int, int]

# Shapes of a pixel beyond this are damage, not anamorphic video, and are taken for square ones.
WIDEST_PIXEL = 8
TALLEST = 2  # a picture's height, in widths asked for: a phone's 9:19.5 is not much narrowed


@dataclass(frozen=True, slots=True)
class Orientation:
    """What to do with a decoded picture, in this order: mirror left to right, then turn clockwise by quarters."""

    quarters: int = 0
    mirrored: bool = False

    @property
    def swaps(self) -> bool:
        """Whether width and height change places."""
        return self.quarters % 2 == 1

    @property
    def rotation(self) -> int:
        """The turn as ffprobe tells it: degrees counter-clockwise, above -180 to 180."""
        return (0, -90, 180, 90)[self.quarters]

    def apply(self, picture: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A picture (height, width, ...) as it is to be shown."""
        if self.mirrored:
            picture = picture[:, ::-1]
        return np.ascontiguousarray(np.rot90(picture, -self.quarters))


def orientation(matrix: Sequence[int] | None) -> Orientation:
    """The orientation of a display matrix (9 numbers, 16.16 and 2.30 fixed point; FFmpeg's libavutil/display.h).

    It maps (x, y) to (a x + c y, b x + d y) with y downward. Turns are rounded to the nearest quarter.
    """
    if matrix is None:
        return Orientation()
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    if not (a or b) or not (c or d):
        return Orientation()
    mirrored = a * d - b * c < 0
    if mirrored:  # mirrored first: the matrix is (turn) x (mirror), so the x axis comes out reversed
        a, b = -a, -b
    return Orientation(round(math.degrees(math.atan2(b, a)) / 90) % 4, mirrored)


def pixel_aspect(ratio: Fraction | None) -> Fraction:
    """A pixel's width over its height; 1 where the file says nothing or nonsense."""
    if ratio is None or ratio <= 0 or not Fraction(1, WIDEST_PIXEL) <= ratio <= WIDEST_PIXEL:
        return Fraction(1)
    return Fraction(ratio)


def display(coded: Size, aspect: Fraction, turn: Orientation) -> Size:
    """The size at which a player shows the picture: stretched to square pixels, never shrunk, then turned."""
    width, height = coded
    if aspect > 1:
        width = round(width * aspect)
    else:
        height = round(height / aspect)
    return (height, width) if turn.swaps else (width, height)


def fit(shown: Size, width: int) -> Size:
    """The size at which a picture of size `shown` is made when `width` is asked for.

    The aspect is kept to the pixel; never larger than `shown` nor taller than TALLEST widths; even, save where the
    source has a single pixel.
    """
    scale = min(Fraction(1), Fraction(width, shown[0]), Fraction(TALLEST * width, shown[1]))
    return _even(shown[0], scale), _even(shown[1], scale)


def _even(length: int, scale: Fraction) -> int:
    """The even number nearest to length * scale, the lower one of two, but at least 2 pixels or all there are."""
    return max(2 * math.ceil((length * scale - 1) / 2), min(length, 2))


def grid(tiles: int) -> tuple[int, int]:
    """Columns and rows of a sheet with so many tiles: near to a square, 10 by 10 for 100 tiles."""
    columns = max(1, math.ceil(math.sqrt(tiles)))
    return columns, max(1, -(-tiles // columns))
