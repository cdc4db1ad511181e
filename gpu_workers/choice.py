"""Frame choice: which of a few frames makes the poster. The same for every engine, and the same frame every time.

A frame is judged on a small sRGB picture of it. It is vetoed when it is black, white or flat; of the others the one
with the highest score wins, the earliest on a tie:

    score = detail / 8 + sharpness + colourfulness / 2

detail          entropy of the lightness histogram, bits (0 to 8): low for fades, credits and fog
sharpness       variance of the Laplacian on a logarithmic scale, 1 at SHARP: low for motion blur
colourfulness   Hasler and Suesstrunk's measure (2003), 1 at COLOURFUL

All measures are absolute, so the best one can be kept as frames go by. When every frame is vetoed, the highest score of
them all still wins: a film of a black room has a poster.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gpu_workers.colour import luma

WIDTH = 128  # pixels, of the picture that is judged
CANDIDATES = 12
FIRST, LAST = 0.05, 0.95  # of the duration, where candidates lie: neither titles nor credits

BLACK, WHITE = 24.0, 238.0  # mean lightness, of 255
FLAT = 2.0  # bits
SHARP = 2000.0  # variance of the Laplacian
COLOURFUL = 100.0


@dataclass(frozen=True, slots=True)
class Score:
    """A frame's measures; `vetoed` says why it makes no poster, "" that it may."""

    value: float
    vetoed: str
    detail: float
    sharpness: float
    colourfulness: float

    @property
    def order(self) -> tuple[bool, float]:
        """Sorts scores, the best last."""
        return not self.vetoed, round(self.value, 6)


def score(picture: npt.NDArray[np.uint8]) -> Score:
    """Judges a small sRGB picture (height, width, 3)."""
    light = luma(picture)
    histogram = np.bincount(np.clip(light, 0, 255).astype(np.uint8).ravel(), minlength=256) / light.size
    present = histogram[histogram > 0]
    detail = float(-(present * np.log2(present)).sum())
    sharpness = min(1.0, float(np.log1p(_laplacian(light)) / np.log1p(SHARP)))
    colourfulness = min(1.0, _colourfulness(picture) / COLOURFUL)
    mean = float(light.mean())
    vetoed = "black" if mean < BLACK else "white" if mean > WHITE else "flat" if detail < FLAT else ""
    return Score(detail / 8 + sharpness + colourfulness / 2, vetoed, detail, sharpness, colourfulness)


def times(duration: float) -> list[float]:
    """When to look for candidates, seconds; the start alone where the duration is not known."""
    if duration <= 0:
        return [0.0]
    step = (LAST - FIRST) / (CANDIDATES - 1)
    return [duration * (FIRST + step * number) for number in range(CANDIDATES)]


def _laplacian(light: npt.NDArray[np.float32]) -> float:
    if min(light.shape) < 3:
        return 0.0
    inner = light[1:-1, 1:-1]
    around = light[:-2, 1:-1] + light[2:, 1:-1] + light[1:-1, :-2] + light[1:-1, 2:]
    return float((around - 4 * inner).var())


def _colourfulness(picture: npt.NDArray[np.uint8]) -> float:
    r, g, b = (picture[..., plane].astype(np.float32) for plane in range(3))
    red_green, yellow_blue = r - g, (r + g) / 2 - b
    spread = np.hypot(red_green.std(), yellow_blue.std())
    return float(spread + 0.3 * np.hypot(red_green.mean(), yellow_blue.mean()))
