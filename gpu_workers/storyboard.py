"""Storyboards: sheets of tiles, and what says which tile to show when: WebVTT, JSON, HLS and BIF.

A cue begins at the presentation time of the frame in its tile and ends where the next one begins; the first begins at
0 and the last ends with the video. So what a cue shows was really on screen when it begins, whatever the frame rate.
HLS alone knows no times of single tiles, only how long each lasts: there a sheet's tiles share its time.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from gpu_workers.geometry import Size, grid
from schemas.outputs import MOST_TILES

SHORTEST = 1.0  # seconds between tiles


@dataclass(frozen=True, slots=True)
class Board:
    """Tiles of `tile` pixels whose frames are shown at `starts` (seconds, rising), in a video that ends at `end`;
    MOST_TILES in each of `sheets`, which are the (relative) addresses of images."""

    starts: tuple[float, ...]
    end: float
    tile: Size
    sheets: tuple[str, ...]

    def milliseconds(self) -> list[int]:
        """When each tile is first shown, and after the last the end. Each lasts a millisecond at least."""
        begin = [0, *(round(start * 1000) for start in self.starts[1:]), round(self.end * 1000)]
        for number in range(1, len(begin)):
            begin[number] = max(begin[number], begin[number - 1] + 1)
        return begin

    def place(self, number: int) -> tuple[str, int, int]:
        """The sheet of a tile, and where its upper left corner is on it."""
        sheet, on_it = divmod(number, MOST_TILES)
        columns, _ = grid(min(MOST_TILES, len(self.starts) - sheet * MOST_TILES))
        row, column = divmod(on_it, columns)
        return self.sheets[sheet], column * self.tile[0], row * self.tile[1]


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


def webvtt(board: Board) -> str:
    """The cues; media fragments `#xywh=` (W3C) name the tile."""
    lines, begin = ["WEBVTT", ""], board.milliseconds()
    for number in range(len(board.starts)):
        image, x, y = board.place(number)
        lines.append(f"{_clock(begin[number])} --> {_clock(begin[number + 1])}")
        lines.append(f"{image}#xywh={x},{y},{board.tile[0]},{board.tile[1]}")
        lines.append("")
    return "\n".join(lines)


def tiles(board: Board) -> bytes:
    """The same as JSON, as players know it: `url`, `tile_width`, `tile_height`, `duration` and `tiles` with `start` in
    seconds, `x`, `y`; with several sheets the `url` is each tile's."""
    begin, several = board.milliseconds(), len(board.sheets) > 1
    told = []
    for number in range(len(board.starts)):
        image, x, y = board.place(number)
        told.append({"start": begin[number] / 1000, "x": x, "y": y} | ({"url": image} if several else {}))
    head = {"tile_width": board.tile[0], "tile_height": board.tile[1], "duration": begin[-1] / 1000}
    return msgspec.json.encode(({} if several else {"url": board.sheets[0]}) | head | {"tiles": told}) + b"\n"


def hls(board: Board) -> str:
    """The sheets as an image media playlist (Roku's and DASH-IF's EXT-X-IMAGES-ONLY and EXT-X-TILES)."""
    begin, count = board.milliseconds(), len(board.starts)
    parts = [(start, min(start + MOST_TILES, count)) for start in range(0, count, MOST_TILES)]
    lasting = [(begin[stop] - begin[start]) / 1000 for start, stop in parts]
    lines = [
        *("#EXTM3U", "#EXT-X-VERSION:7", f"#EXT-X-TARGETDURATION:{max(1, round(max(lasting) + 0.5))}"),
        *("#EXT-X-MEDIA-SEQUENCE:0", "#EXT-X-PLAYLIST-TYPE:VOD", "#EXT-X-IMAGES-ONLY"),
    ]
    for (start, stop), seconds, image in zip(parts, lasting, board.sheets, strict=True):
        columns, rows = grid(stop - start)
        size, layout = f"{board.tile[0]}x{board.tile[1]}", f"{columns}x{rows}"
        lines.append(f"#EXTINF:{seconds:.3f},")
        lines.append(f"#EXT-X-TILES:RESOLUTION={size},LAYOUT={layout},DURATION={seconds / (stop - start):.3f}")
        lines.append(image)
    return "\n".join([*lines, "#EXT-X-ENDLIST", ""])


def bif(board: Board, pictures: Sequence[bytes]) -> bytes:
    """The tiles, which are JPEG files, in one: Roku's Base Index Frames, version 0, timestamps in milliseconds."""
    begin = board.milliseconds()
    at = 64 + 8 * (len(pictures) + 1)
    head = b"\x89BIF\r\n\x1a\n" + struct.pack("<III", 0, len(pictures), 1) + bytes(44)
    index = b""
    for moment, content in zip(begin, pictures, strict=False):
        index += struct.pack("<II", moment, at)
        at += len(content)
    return head + index + struct.pack("<II", 0xFFFFFFFF, at) + b"".join(pictures)


def _clock(milliseconds: int) -> str:
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}.{milliseconds:03}"
