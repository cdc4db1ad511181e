"""What a page shows until a picture is there: a BlurHash and one colour.

BlurHash (Wolt's, MIT): the low frequencies of a cosine transform of linear light, as a short text in base 83, which
every platform has a decoder for.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

Picture = npt.NDArray[np.uint8]

ACROSS, DOWN = 4, 3  # components
SIDE = 32  # pixels of the picture that is looked at
SHADES = 8  # of each component, by which colours are told apart for the most common one
DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%*+,-.:;=?@[]^_{|}~"


def blurhash(picture: Picture) -> str:
    """The BlurHash of an sRGB picture (height, width, 3)."""
    code = _small(picture).astype(np.float64) / 255
    light = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    height, width, _ = light.shape
    across = np.cos(np.pi * np.outer(np.arange(ACROSS), np.arange(width)) / width)
    down = np.cos(np.pi * np.outer(np.arange(DOWN), np.arange(height)) / height)
    terms = np.einsum("jy,ix,yxc->jic", down, across, light) / (width * height)
    mean, others = terms[0, 0], 2 * terms.reshape(-1, 3)[1:]
    most = float(np.abs(others).max())
    step = int(np.clip(np.floor(most * 166 - 0.5), 0, 82))
    largest = (step + 1) / 166
    red, green, blue = (int(value) for value in _srgb(mean))
    text = _digits(ACROSS - 1 + 9 * (DOWN - 1), 1) + _digits(step, 1) + _digits(red << 16 | green << 8 | blue, 4)
    scaled = others / largest
    levels = np.clip(np.floor(np.sign(scaled) * np.sqrt(np.abs(scaled)) * 9 + 9.5), 0, 18).astype(int)
    return text + "".join(_digits(int(r) * 361 + int(g) * 19 + int(b), 2) for r, g, b in levels)


def colour(picture: Picture) -> str:
    """The most common colour of an sRGB picture, as #rrggbb."""
    pixels = _small(picture).reshape(-1, 3)
    shades = pixels.astype(int) * SHADES // 256
    kinds = (shades[:, 0] * SHADES + shades[:, 1]) * SHADES + shades[:, 2]
    most = np.bincount(kinds).argmax()
    red, green, blue = (round(float(value)) for value in pixels[kinds == most].mean(0))
    return f"#{red:02x}{green:02x}{blue:02x}"


def _small(picture: Picture) -> Picture:
    return np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BOX))


def _srgb(light: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    light = np.clip(light, 0, 1)
    code = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return (code * 255 + 0.5).astype(np.int64)


def _digits(value: int, length: int) -> str:
    return "".join(DIGITS[value // 83**place % 83] for place in reversed(range(length)))
