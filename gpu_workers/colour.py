"""Colour: code values of a decoded picture to sRGB, by the standard that the video names.

The picture comes as Y, Cb, Cr (or G, B, R) at full resolution, in 16 bits with the sample's bits on top. Matrix, range,
transfer and primaries are those of ITU-T H.273; what the video leaves open is guessed as players do. SDR code values
are passed on as they are (a BT.709 or BT.601 picture is shown so everywhere); HDR is brought to linear light, mapped
and encoded anew. Everything is one function on arrays, so that every engine gives the same picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

REFERENCE_WHITE = 203.0  # cd/m2, diffuse white of HDR graphics (ITU-R BT.2408)
HLG_PEAK = 1000.0  # cd/m2, of the display for which the HLG system gamma is 1.2 (ITU-R BT.2100)
KNEE = 0.75  # of SDR white; below it HDR is passed on as it is


class Matrix(IntEnum):
    """MatrixCoefficients of H.273."""

    RGB = 0
    BT709 = 1
    UNSPECIFIED = 2
    FCC = 4
    BT470BG = 5
    SMPTE170M = 6
    SMPTE240M = 7
    YCGCO = 8
    BT2020 = 9
    BT2020_CONSTANT = 10


class Transfer(Enum):
    """What the code values mean in light; all that is neither PQ nor HLG is shown as SDR."""

    SDR = 0
    PQ = 16
    HLG = 18


class Primaries(Enum):
    """The primaries that differ visibly from sRGB's."""

    BT709 = 1
    BT2020 = 9
    P3 = 12


# Weights of red and blue in luma.
LUMA: dict[Matrix, tuple[float, float]] = {
    Matrix.BT709: (0.2126, 0.0722),
    Matrix.FCC: (0.30, 0.11),
    Matrix.BT470BG: (0.299, 0.114),
    Matrix.SMPTE170M: (0.299, 0.114),
    Matrix.SMPTE240M: (0.212, 0.087),
    Matrix.BT2020: (0.2627, 0.0593),
    Matrix.BT2020_CONSTANT: (0.2627, 0.0593),
}

# Linear light of these primaries to that of BT.709, both with white D65.
TO_BT709: dict[Primaries, Array] = {
    Primaries.BT2020: np.array(
        [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]],
        np.float32,
    ),
    Primaries.P3: np.array(
        [[1.224940, -0.224940, 0.0], [-0.042057, 1.042057, 0.0], [-0.019638, -0.078636, 1.098274]], np.float32
    ),
}


@dataclass(frozen=True, slots=True)
class Colour:
    """The meaning of a picture's code values."""

    matrix: Matrix
    full_range: bool
    bits: int
    transfer: Transfer = Transfer.SDR
    primaries: Primaries = Primaries.BT709


def colour(
    *,
    matrix: int,
    full_range: bool,
    bits: int,
    transfer: int,
    primaries: int,
    width: int,
    height: int,
    rgb: bool = False,
) -> Colour:
    """The colour of a picture from what the stream says (numbers of H.273; 2 is unspecified), its size deciding where
    it says nothing: HD is BT.709, smaller is BT.601."""
    kind = {16: Transfer.PQ, 18: Transfer.HLG}.get(transfer, Transfer.SDR)
    gamut = {9: Primaries.BT2020, 11: Primaries.P3, 12: Primaries.P3}.get(primaries, Primaries.BT709)
    if kind is not Transfer.SDR and primaries == 2:
        gamut = Primaries.BT2020
    if rgb:
        named = Matrix.RGB
    elif matrix in LUMA or matrix == Matrix.YCGCO:
        named = Matrix(matrix)
    elif kind is not Transfer.SDR or primaries == 9:
        named = Matrix.BT2020
    else:
        named = Matrix.BT709 if width >= 1280 or height > 576 else Matrix.SMPTE170M
    return Colour(named, full_range or rgb, bits, kind, gamut)


def to_srgb(picture: npt.NDArray[np.uint16], given: Colour) -> npt.NDArray[np.uint8]:
    """The picture (height, width, 3) in 8-bit sRGB. Planes: Y, Cb, Cr, or R, G, B where the matrix is RGB."""
    rgb = _rgb(picture, given)
    if given.transfer is not Transfer.SDR:
        rgb = _encode(_to_sdr(_gamut(_light(rgb, given), given)))
    elif given.primaries is not Primaries.BT709:
        rgb = np.clip(_gamut(np.clip(rgb, 0, None) ** 2.4, given), 0, None) ** (1 / 2.4)
    return (np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8)


def _rgb(picture: npt.NDArray[np.uint16], given: Colour) -> Array:
    """Non-linear R'G'B', 0 to 1 within range."""
    code = picture.astype(np.float32) / np.float32(1 << (16 - given.bits))
    unit = float(1 << (given.bits - 8))
    if given.full_range:
        luma_offset, luma_span, chroma_span = 0.0, 256 * unit - 1, 256 * unit - 1
    else:
        luma_offset, luma_span, chroma_span = 16 * unit, 219 * unit, 224 * unit
    if given.matrix is Matrix.RGB:
        return (code - luma_offset) / luma_span
    y = (code[..., 0] - luma_offset) / luma_span
    cb = (code[..., 1] - 128 * unit) / chroma_span
    cr = (code[..., 2] - 128 * unit) / chroma_span
    if given.matrix is Matrix.YCGCO:  # Cg and Co take the places of Cb and Cr
        return np.stack([y - cb + cr, y + cb, y - cb - cr], axis=-1)
    red, blue = LUMA[given.matrix]
    r = y + 2 * (1 - red) * cr
    b = y + 2 * (1 - blue) * cb
    g = (y - red * r - blue * b) / (1 - red - blue)
    return np.stack([r, g, b], axis=-1)


def _light(rgb: Array, given: Colour) -> Array:
    """Linear light of a display, 1 at the diffuse white of HDR, which SDR's white stands for."""
    signal = np.clip(rgb, 0, 1)
    if given.transfer is Transfer.PQ:  # SMPTE ST 2084
        power = signal ** np.float32(1 / 78.84375)
        light = (np.clip(power - 0.8359375, 0, None) / (18.8515625 - 18.6875 * power)) ** np.float32(
            1 / 0.1593017578125
        )
        return np.asarray(light * (10_000 / REFERENCE_WHITE), np.float32)
    a, b, c = 0.17883277, 0.28466892, 0.55991073  # ITU-R BT.2100, HLG
    scene = np.where(signal <= 0.5, signal * signal / 3, (np.exp((signal - c) / a) + b) / 12)
    luminance = scene @ np.array([0.2627, 0.6780, 0.0593], np.float32)
    gain = HLG_PEAK * np.maximum(luminance, 1e-6) ** np.float32(0.2)
    return np.asarray(scene * gain[..., None] / REFERENCE_WHITE, np.float32)


def _gamut(light: Array, given: Colour) -> Array:
    matrix = TO_BT709.get(given.primaries)
    return light if matrix is None else light @ matrix.T


def _to_sdr(light: Array) -> Array:
    """Tone mapping: as it is up to KNEE, then ever flatter towards 1, by the largest component, so that hues stay.

    Diffuse white comes out at 0.88 of SDR's white, 1,000 cd/m2 at 0.99.
    """
    light = np.clip(light, 0, None)
    largest = light.max(axis=-1, keepdims=True)
    above = np.maximum(largest - KNEE, 0) / (1 - KNEE)
    mapped = np.where(largest > KNEE, KNEE + (1 - KNEE) * above / (1 + above), largest)
    return np.asarray(light * (mapped / np.maximum(largest, 1e-6)), np.float32)


def _encode(light: Array) -> Array:
    """Linear light to sRGB's code values, 0 to 1 (IEC 61966-2-1)."""
    light = np.clip(light, 0, 1)
    return np.asarray(
        np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** np.float32(1 / 2.4) - 0.055), np.float32
    )


def luma(picture: npt.NDArray[np.uint8]) -> Any:
    """The lightness (BT.601 luma, 0 to 255, float32) of an sRGB picture."""
    return picture.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
