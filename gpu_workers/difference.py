"""How far two pictures are apart: what an eye sees (CIE 1976), where, and which way round.

Pictures are sRGB, shape (height, width, 3), 8 bits; planes are arrays of code values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gpu_workers.colour import luma

Picture = npt.NDArray[np.uint8]
Map = npt.NDArray[np.float64]

WHITE = np.array([0.95047, 1.0, 1.08883])  # D65
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
GRID = 8  # cells along each side


def lab(picture: Picture) -> Map:
    """CIE L*a*b* (1976) of sRGB (IEC 61966-2-1), white D65."""
    code = picture.astype(np.float64) / 255
    light = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    ratio = light @ TO_XYZ.T / WHITE
    root = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = root[..., 0], root[..., 1], root[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def delta_e(one: Picture, other: Picture) -> Map:
    """The colour difference (CIE 1976) at every pixel of two pictures of one size."""
    return np.asarray(np.sqrt(((lab(one) - lab(other)) ** 2).sum(-1)))


def cells(values: Map, across: int = GRID, down: int = GRID) -> Map:
    """The means of a grid of cells; shape (down, across)."""
    rows = np.array_split(values, down, 0)
    return np.array([[float(cell.mean()) for cell in np.array_split(row, across, 1)] for row in rows])


def psnr(one: npt.NDArray[Any], other: npt.NDArray[Any], peak: float) -> float:
    """Peak signal to noise in decibels; infinite for the same."""
    error = float(((one.astype(np.float64) - other.astype(np.float64)) ** 2).mean())
    return float("inf") if error == 0 else float(10 * np.log10(peak * peak / error))


def orientation_of(picture: Picture, reference: Picture) -> tuple[int, bool]:
    """Which of the eight ways of turning `reference` looks most like `picture`: quarters clockwise, mirrored first."""
    seen = _small(picture)
    ways = [(quarters, mirrored) for mirrored in (False, True) for quarters in range(4)]

    def likeness(way: tuple[int, bool]) -> float:
        quarters, mirrored = way
        turned = np.rot90(reference[:, ::-1] if mirrored else reference, -quarters)
        return float((seen * _small(turned)).mean())

    return max(ways, key=likeness)


def _small(picture: npt.NDArray[np.uint8]) -> Map:
    """Lightness on a grid, without mean and scale, so that products of two are correlations."""
    light = cells(np.asarray(luma(picture), np.float64), 12, 12)
    spread = light.std()
    return np.asarray((light - light.mean()) / (spread or 1.0))
