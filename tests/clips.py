"""Makes small video files with ffmpeg, and looks at what was made of them with other programs than ours."""

from __future__ import annotations

import io
import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Picture = npt.NDArray[np.uint8]


def ffmpeg(*arguments: str | Path, data: bytes = b"") -> bytes:
    """Runs ffmpeg; `data` is its standard input. Returns its standard output."""
    command = ["ffmpeg", "-v", "error", "-y", "-nostdin" if not data else "-stdin", *map(str, arguments)]
    done = subprocess.run(command, input=data or None, capture_output=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr.decode(errors='replace')}"
    return done.stdout


def times(clip: Path) -> list[float]:
    """The presentation times of all frames as ffprobe tells them, from 0."""
    command = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries", "packet=pts_time:format=start_time"]
    found = json.loads(subprocess.check_output([*command, "-of", "json", str(clip)]))
    start = float(found["format"]["start_time"])
    return sorted(float(packet["pts_time"]) - start for packet in found["packets"])


def small(path: Path, *options: str, seconds: float = 2.0, size: str = "160x120", rate: int = 25) -> Path:
    """A moving test picture, H.264."""
    source = f"testsrc2=s={size}:r={rate}:d={seconds}"
    ffmpeg("-f", "lavfi", "-i", source, "-c:v", "libx264", "-preset", "ultrafast", *options, path)
    return path


def still(path: Path, picture: Picture, *options: str, frames: int = 5) -> Path:
    """A clip that shows one RGB picture all the time."""
    height, width, _ = picture.shape
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", "25", "-i", "-")
    ffmpeg(*raw, *options, path, data=picture.tobytes() * frames)
    return path


def patches(colours: list[tuple[int, int, int]], side: int = 64) -> Picture:
    """Colours as squares, three in a row."""
    rows = [colours[start : start + 3] for start in range(0, len(colours), 3)]
    return np.repeat(np.repeat(np.array(rows, np.uint8), side, 0), side, 1)


def means(picture: Picture, side: int = 64) -> list[list[float]]:
    """The mean colours of the squares' middles."""
    found = []
    for top in range(0, picture.shape[0], side):
        for left in range(0, picture.shape[1], side):
            middle = picture[top + side // 4 : top + 3 * side // 4, left + side // 4 : left + 3 * side // 4]
            found.append([float(value) for value in middle.reshape(-1, 3).mean(0)])
    return found


def load(path: Path) -> Picture:
    """An image file in RGB, by Pillow."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def as_shown(clip: Path) -> Picture:
    """The first frame as ffmpeg shows it, turned by itself."""
    return np.asarray(Image.open(io.BytesIO(ffmpeg("-i", clip, "-frames:v", "1", "-f", "image2", "-c:v", "png", "-"))))[
        ..., :3
    ]


@dataclass(frozen=True)
class Cue:
    """A cue of WebVTT; times in seconds, the box is x, y, width, height."""

    start: float
    end: float
    image: str
    box: tuple[int, int, int, int]


CUE = re.compile(r"(\d+):(\d\d):(\d\d\.\d{3}) --> (\d+):(\d\d):(\d\d\.\d{3})\n(\S+)#xywh=(\d+),(\d+),(\d+),(\d+)")


def cues(path: Path) -> list[Cue]:
    """The cues of a WebVTT file."""
    text = path.read_text()
    assert text.startswith("WEBVTT\n\n")

    def seconds(hours: str, minutes: str, rest: str) -> float:
        return 3600 * int(hours) + 60 * int(minutes) + float(rest)

    found: list[Cue] = []
    for match in CUE.findall(text):
        box: Any = tuple(int(number) for number in match[7:11])
        found.append(Cue(seconds(*match[0:3]), seconds(*match[3:6]), match[6], box))
    assert len(found) == text.count("-->")
    return found


def tile(sheet: Picture, cue: Cue) -> Picture:
    """The part of a sheet that a cue shows."""
    x, y, width, height = cue.box
    found = sheet[y : y + height, x : x + width]
    assert found.shape[:2] == (height, width)
    return found
