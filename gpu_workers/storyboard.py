"""Storyboards: a sheet of tiles and the WebVTT that says which tile to show when.

A cue begins at the presentation time of the frame in its tile and ends where the next one begins; the first begins at
0 and the last ends with the video. So what a cue shows was really on screen when it begins, whatever the frame rate.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gpu_workers.geometry import Size, grid

SHORTEST = 1.0  # seconds between tiles


def times(duration: float, tiles: int) -> list[float]:
    """When to look for frames, seconds: evenly from the start, not closer than SHORTEST, `tiles` at most."""
    if duration <= 0:
        return [0.0]
    step = max(duration / tiles, SHORTEST)
    return [step * number for number in range(tiles) if number == 0 or step * number < duration]


def sheet(tiles: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    """The tiles, all of one size (height, width, 3), row by row on a black sheet."""
    columns, rows = grid(len(tiles))
    height, width, _ = tiles[0].shape
    out = np.zeros((rows * height, columns * width, 3), np.uint8)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        out[row * height : (row + 1) * height, column * width : (column + 1) * width] = tile
    return out


def webvtt(starts: Sequence[float], end: float, tile: Size, image: str) -> str:
    """The cues for tiles of a sheet at the (relative) address `image`, whose frames' times are `starts`, rising.

    Media fragments `#xywh=` (W3C) name the tile. A cue lasts a millisecond at least.
    """
    columns, _ = grid(len(starts))
    begin = [0, *(round(start * 1000) for start in starts[1:])]
    for number in range(1, len(begin)):
        begin[number] = max(begin[number], begin[number - 1] + 1)
    ends = [*begin[1:], max(round(end * 1000), begin[-1] + 1)]
    lines = ["WEBVTT", ""]
    for number, (first, last) in enumerate(zip(begin, ends, strict=True)):
        row, column = divmod(number, columns)
        lines.append(f"{_clock(first)} --> {_clock(last)}")
        lines.append(f"{image}#xywh={column * tile[0]},{row * tile[1]},{tile[0]},{tile[1]}")
        lines.append("")
    return "\n".join(lines)


def _clock(milliseconds: int) -> str:
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}.{milliseconds:03}"
