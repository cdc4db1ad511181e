"""What is made of a video beside poster and storyboard: frames, frames at times, scenes, previews, indexes."""

from __future__ import annotations

import json
import struct
import subprocess
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gpu_workers import storyboard, video
from gpu_workers.storyboard import Board
from schemas.outputs import (
    CONTENT_TYPES,
    DEFAULT_OUTPUTS,
    Animation,
    At,
    Format,
    Frames,
    Index,
    Kind,
    Poster,
    Preview,
    Rule,
    Scenes,
    Storyboard,
    Wanted,
    doubled,
)
from tests.clips import cues, ffmpeg, load, small, tile
from tests.gpu_workers.conftest import Maker
from tests.gpu_workers.test_storyboard import counting, number

EVERYTHING: tuple[Wanted, ...] = (
    Poster(width=64),
    Poster(width=64, rule=Rule.THUMBNAIL),
    Frames(count=3),
    At(times=(0.0, 1.0)),
    Scenes(),
    Storyboard(index=tuple(Index)),
    Preview(),
    Preview(format=Animation.GIF),
    Preview(format=Animation.MP4),
    *(Poster(format=form) for form in Format),
)


def test_everything_at_once(tmp_path: Path, thumbnails: Maker, out: Path) -> None:
    made = thumbnails(small(tmp_path / "clip.mp4"), *EVERYTHING)
    assert {output.path for output in made.outputs} == {path.name for path in out.iterdir()}
    assert {output.kind for output in made.outputs} == set(Kind)
    for output in made.outputs:
        assert (out / output.path).stat().st_size > 100
        assert output.path.rpartition(".")[2] in CONTENT_TYPES
        single = output.kind in (Kind.POSTER, Kind.FRAME, Kind.SCENE)
        assert bool(output.placeholder) == bool(output.colour) == single
        if single:
            with Image.open(out / output.path) as image:
                assert image.size == (output.width, output.height)


def test_no_two_outputs_share_a_file() -> None:
    assert doubled(EVERYTHING) is None
    assert doubled(DEFAULT_OUTPUTS) is None
    assert doubled((Poster(), Poster(format=Format.PNG), Poster())) == 2
    assert doubled((Storyboard(), Storyboard(format=Format.WEBP))) == 1  # they would share what tells the tiles
    assert doubled((At(times=(1.0,)), At(times=(2.0,)))) == 1


X264 = ("mp4", "mkv", "ts")
KINDS = [
    *((ending, ()) for ending in X264),
    *((ending, ("-output_ts_offset", "5")) for ending in X264),
    *((ending, ("-bf", "3", "-g", "12")) for ending in (*X264, "flv")),
    *((ending, ("-bf", "3", "-g", "12", "-x264opts", "open_gop=1")) for ending in ("mp4", "mkv")),
    *((ending, ("-g", "1000")) for ending in X264),
    *((ending, ("-c:v", "mpeg2video", "-q:v", "1", "-g", "12", "-bf", "2")) for ending in ("mpg", "ts", "mxf")),
    *((ending, ("-c:v", "mpeg4", "-q:v", "1", "-g", "12")) for ending in ("avi", "mp4", "3gp")),
    *((ending, ("-c:v", "wmv2", "-q:v", "1", "-g", "12")) for ending in ("wmv", "avi")),
    ("webm", ("-c:v", "libvpx-vp9", "-b:v", "4M", "-deadline", "realtime", "-cpu-used", "8", "-g", "12")),
    ("ogv", ("-c:v", "libtheora", "-q:v", "10", "-g", "12")),
]


def counter(path: Path, frames: int, *options: str, rate: float = 25) -> Path:
    """As `counting`, with times that are whole in every unit."""
    return counting(path, frames, *options, pace=f"(N+0.01)/{rate}")


def on_screen(clip: Path) -> list[float]:
    """The times of all frames as ffmpeg decodes them, from 0 at the container's start."""
    entries = "frame=best_effort_timestamp_time:format=start_time"
    command = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries", entries, "-of", "json", str(clip)]
    found = json.loads(subprocess.check_output(command))
    start = float(found["format"]["start_time"])
    shown: list[float] = []
    for frame in found["frames"]:  # the last one of a program stream has no time
        told = frame.get("best_effort_timestamp_time")
        shown.append(2 * shown[-1] - shown[-2] if told is None else float(told) - start)
    return shown


@pytest.mark.parametrize(("ending", "options"), KINDS)
def test_a_time_gives_the_frame_on_screen_whatever_the_container(
    ending: str,
    options: tuple[str, ...],
    tmp_path: Path,
    thumbnails: Maker,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = (0.0, 0.5, 1.47, 1.02, 1.99, 77.0)
    clip = counter(tmp_path / f"clip.{ending}", 50, *options)
    at = on_screen(clip)
    for pixels in (video.EXACT_PIXELS, 0):  # and as in a video of hours
        monkeypatch.setattr(video, "EXACT_PIXELS", pixels)
        made = thumbnails(clip, At(times=wanted))
        assert [output.path for output in made.outputs] == [f"at-640-{n:03}.jpg" for n in range(1, len(wanted) + 1)]
        for moment, output in zip(wanted, made.outputs, strict=True):
            place = max(place for place, shown in enumerate(at) if place == 0 or shown <= moment + 0.0006)
            assert number(load(out / output.path)) == place
            assert output.time == pytest.approx(max(at[place], 0), abs=0.002)


def test_what_an_edit_list_cuts_off_is_never_shown(tmp_path: Path, thumbnails: Maker, out: Path) -> None:
    """The cut is between keyframes, so what comes before it is in the file, and has to be decoded."""
    whole, clip = counter(tmp_path / "whole.mp4", 50, "-bf", "0", "-g", "25"), tmp_path / "clip.mp4"
    ffmpeg("-ss", "0.4", "-i", whole, "-c", "copy", clip)
    made = thumbnails(clip, At(times=(0.0, 0.4, 1.0)), Storyboard(width=64), Poster())
    assert [number(load(out / output.path)) for output in made.outputs[:3]] == [10, 20, 35]
    assert [output.time for output in made.outputs[:3]] == pytest.approx([0.0, 0.4, 1.0], abs=0.002)
    assert made.source.duration == pytest.approx(1.6, abs=0.001)


def test_frames_are_spread_and_as_many_as_there_are(tmp_path: Path, thumbnails: Maker, out: Path) -> None:
    clip = counter(tmp_path / "clip.mp4", 50)
    found = thumbnails(clip, Frames(count=5)).outputs
    assert [number(load(out / output.path)) for output in found] == [5, 15, 25, 35, 45]
    for output in found:
        assert output.time == pytest.approx(number(load(out / output.path)) / 25, abs=0.002)
    three = thumbnails(counter(tmp_path / "three.mp4", 3), Frames(count=10)).outputs
    assert len(three) == 3
    assert all(one.time < other.time for one, other in pairwise(three))


@pytest.mark.parametrize("cheap", [True, False])
def test_scenes_begin_where_the_picture_changes(
    cheap: bool, tmp_path: Path, thumbnails: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not cheap:  # keyframes alone, which the encoder puts there
        monkeypatch.setattr(video, "EXACT_PIXELS", 0)
    clip = tmp_path / "clip.mp4"
    sources = (
        "testsrc2=s=160x120:r=25",
        "smptebars=s=160x120:r=25",
        "mandelbrot=s=160x120:r=25",
        "color=white:s=160x120:r=25",
    )
    inputs = [
        part
        for name in sources
        for part in ("-f", "lavfi", "-t", "1.2", "-i", f"{name}{':' if '=' in name else '='}s=160x120:r=25")
    ]
    chain = "[0][1][2][3]concat=n=4,format=yuv420p"
    ffmpeg(*inputs, "-filter_complex", chain, "-c:v", "libx264", "-preset", "medium", clip)
    found = thumbnails(clip, Scenes()).outputs
    assert [output.time for output in found] == pytest.approx([0.0, 1.2, 2.4, 3.6], abs=0.001)
    assert [output.path for output in found] == [f"scenes-640-{n:03}.jpg" for n in range(1, 5)]
    assert {output.kind for output in found} == {Kind.SCENE}
    most = thumbnails(clip, Scenes(most=2)).outputs
    assert len(most) == 2
    assert most[0].time == 0.0


def test_a_preview_has_pieces_from_all_over_the_video(tmp_path: Path, thumbnails: Maker, out: Path) -> None:
    clip = counter(tmp_path / "clip.mp4", 55, "-g", "5", rate=5)  # 11 seconds
    (preview,) = thumbnails(clip, Preview(width=64, seconds=2, rate=5, format=Animation.MP4)).outputs
    raw = ffmpeg("-i", out / preview.path, "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    seen = [number(frame) for frame in np.frombuffer(raw, np.uint8).reshape(10, 64, 64, 3)]
    assert seen == sorted(seen)
    assert seen[0] < 15
    assert seen[-1] > 40
    assert preview.time == pytest.approx(seen[0] / 5, abs=0.002)
    assert sum(after - before == 1 for before, after in pairwise(seen)) >= 7  # moving within pieces


def test_a_preview_of_a_short_clip_is_the_clip(tmp_path: Path, thumbnails: Maker, out: Path) -> None:
    (preview,) = thumbnails(counter(tmp_path / "clip.mp4", 10), Preview(width=64)).outputs
    with Image.open(out / preview.path) as image:
        assert getattr(image, "n_frames", 1) == 3  # 0.4 s at 8 a second
    assert preview.time == 0.0


def test_all_indexes_tell_the_same_tiles(tmp_path: Path, thumbnails: Maker, out: Path) -> None:
    clip = counter(tmp_path / "clip.mp4", 55, "-g", "5", rate=5)
    made = thumbnails(clip, Storyboard(width=64, tiles=5, index=tuple(Index)))
    found = cues(out / "storyboard-64.vtt")
    board = json.loads((out / "storyboard-64.json").read_text())
    assert (board["url"], board["tile_width"], board["tile_height"]) == ("storyboard-64.jpg", 64, 64)
    assert board["duration"] == pytest.approx(made.source.duration)
    assert [one["start"] for one in board["tiles"]] == [cue.start for cue in found]
    assert [(one["x"], one["y"]) for one in board["tiles"]] == [cue.box[:2] for cue in found]

    bif = (out / "storyboard-64.bif").read_bytes()
    assert bif[:8] == bytes([0x89, 0x42, 0x49, 0x46, 0x0D, 0x0A, 0x1A, 0x0A])
    version, count, unit = struct.unpack_from("<III", bif, 8)
    assert (version, count) == (0, 5)
    entries = [struct.unpack_from("<II", bif, 64 + 8 * place) for place in range(count + 1)]
    assert entries[-1] == (0xFFFFFFFF, len(bif))
    sheet = load(out / "storyboard-64.jpg")
    for cue, (moment, start), (_, end) in zip(found, entries, entries[1:], strict=False):
        assert moment * unit / 1000 == pytest.approx(cue.start)
        (tmp_path / "tile.jpg").write_bytes(bif[start:end])
        assert number(load(tmp_path / "tile.jpg")) == number(tile(sheet, cue))

    hls = (out / "storyboard-64.m3u8").read_text().splitlines()
    assert hls[0] == "#EXTM3U"
    assert "#EXT-X-IMAGES-ONLY" in hls
    assert hls[-1] == "#EXT-X-ENDLIST"
    assert f"#EXTINF:{made.source.duration:.3f}," in hls
    assert f"#EXT-X-TILES:RESOLUTION=64x64,LAYOUT=3x2,DURATION={made.source.duration / 5:.3f}" in hls
    assert "storyboard-64.jpg" in hls


def test_many_tiles_fill_several_sheets(tmp_path: Path, thumbnails: Maker, out: Path) -> None:
    clip = counter(tmp_path / "clip.mkv", 55, "-g", "5", rate=0.5)  # 110 seconds
    made = thumbnails(clip, Storyboard(width=16, tiles=300, index=tuple(Index)))
    sheets = [output for output in made.outputs if output.kind is Kind.STORYBOARD]
    assert [sheet.path for sheet in sheets] == ["storyboard-16.jpg"]
    whole = Board(tuple(float(n) for n in range(150)), 150.0, (16, 10), ("a.jpg", "b.jpg"))
    places = [line for line in storyboard.webvtt(whole).splitlines() if "#xywh" in line]
    assert places[99] == "a.jpg#xywh=144,90,16,10"
    assert places[100] == "b.jpg#xywh=0,0,16,10"
    assert places[149] == "b.jpg#xywh=16,60,16,10"  # on a sheet of 8 columns
    told = json.loads(storyboard.tiles(whole))
    assert "url" not in told
    assert [one["url"] for one in told["tiles"]] == ["a.jpg"] * 100 + ["b.jpg"] * 50
    assert storyboard.hls(whole).count("#EXT-X-TILES") == 2
