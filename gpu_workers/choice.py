"""Frame choice: which of a few frames makes the poster. The same for every engine, and the same frame every time.

Candidates lie all over the video. Each is judged on a small sRGB picture of it. It is vetoed when it is black, white,
flat or blurred, or in the middle of a transition; of the others the one with the highest score wins, the earliest on a
tie:

    score = detail / 8 + sharpness + colourfulness / 2 + typicality / 2

detail          entropy of the lightness histogram, bits (0 to 8): low for fades, credits and fog
sharpness       variance of the Laplacian on a logarithmic scale, 1 at SHARP: low for motion blur
colourfulness   Hasler and Suesstrunk's measure (2003), 1 at COLOURFUL
typicality      what its histogram has in common with the mean of all candidates', 0 to 1: FFmpeg's thumbnail filter
                looks at nothing else

The first three are absolute. When every frame is vetoed, the highest score of them all still wins: a film of a black
room has a poster.

Whether a frame is in a transition shows in what follows: a fade or a dissolve changes all pixels at an even pace, so
that the picture halfway is the mean of both ends, which motion does not.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from gpu_workers.colour import luma
from schemas.outputs import Score

WIDTH = 128  # pixels, of the picture that is judged
CANDIDATES = 16
FIRST, LAST = 0.05, 0.95  # of the duration, where candidates lie: neither titles nor credits

BLACK, WHITE = 24.0, 238.0  # mean lightness, of 255
FLAT = 2.0  # bits
BLURRED = 12.0  # variance of the Laplacian, of 255 squared
SHARP = 2000.0  # variance of the Laplacian
COLOURFUL = 100.0
BINS = 16  # of each component's histogram

LOOK = 0.1  # seconds between the three pictures that show a transition
CHANGES = 3.0  # mean difference of lightness in twice that time, of 255
EVEN = 0.2  # of it, by which the one in the middle may be off


class Candidate(msgspec.Struct, frozen=True):
    """A frame that was judged. `histogram` has the share of pixels in each bin, component by component."""

    time: float
    score: Score
    histogram: npt.NDArray[np.float64]


def judge(time: float, picture: npt.NDArray[np.uint8]) -> Candidate:
    """Judges a small sRGB picture (height, width, 3) of the frame at `time`. Its typicality is not known yet."""
    light = luma(picture)
    histogram = np.bincount(np.clip(light, 0, 255).astype(np.uint8).ravel(), minlength=256) / light.size
    present = histogram[histogram > 0]
    detail = float(-(present * np.log2(present)).sum())
    edges = _laplacian(light)
    sharpness = min(1.0, float(np.log1p(edges) / np.log1p(SHARP)))
    colourfulness = min(1.0, _colourfulness(picture) / COLOURFUL)
    mean = float(light.mean())
    vetoes = {"black": mean < BLACK, "white": mean > WHITE, "flat": detail < FLAT, "blurred": edges < BLURRED}
    score = Score(
        value=detail / 8 + sharpness + colourfulness / 2,
        vetoed=next((why for why, is_so in vetoes.items() if is_so), ""),
        detail=detail,
        sharpness=sharpness,
        colourfulness=colourfulness,
        typicality=0.0,
    )
    shades = picture.reshape(-1, 3) // (256 // BINS)
    counts = [np.bincount(shades[:, plane], minlength=BINS) / len(shades) for plane in range(3)]
    return Candidate(time, score, np.concatenate(counts))


def ranked(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates with their typicality, the best first."""
    if not candidates:
        return []
    mean = np.mean([candidate.histogram for candidate in candidates], axis=0)
    found = []
    for candidate in candidates:
        typicality = 1 - float(np.abs(candidate.histogram - mean).sum()) / 6
        score = msgspec.structs.replace(
            candidate.score, typicality=typicality, value=candidate.score.value + typicality / 2
        )
        found.append(msgspec.structs.replace(candidate, score=score))
    return sorted(found, key=lambda one: (bool(one.score.vetoed), -round(one.score.value, 6), one.time))


def vetoed(candidate: Candidate) -> Candidate:
    """The candidate, said to be in a transition unless there is another veto."""
    why = candidate.score.vetoed or "transition"
    return msgspec.structs.replace(candidate, score=msgspec.structs.replace(candidate.score, vetoed=why))


def transition(pictures: Sequence[npt.NDArray[np.uint8]]) -> bool:
    """Whether three small pictures, LOOK apart, are of a fade or a dissolve."""
    first, middle, last = (luma(picture) for picture in pictures)
    change = float(np.abs(last - first).mean())
    return change > CHANGES and float(np.abs(middle - (first + last) / 2).mean()) < EVEN * change


def rounded(score: Score) -> Score:
    """As it is told."""
    return Score(
        round(score.value, 4),
        score.vetoed,
        round(score.detail, 4),
        round(score.sharpness, 4),
        round(score.colourfulness, 4),
        round(score.typicality, 4),
    )


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
