"""The command line: what it asks ffmpeg for, and that its frames are those of the engine in process."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gpu_workers import command, router, thumbnails
from gpu_workers.command import Chain, Frames
from gpu_workers.cuda_cli import CommandFailed, CommandVideo, program
from gpu_workers.difference import cells, delta_e
from gpu_workers.failures import Failure
from gpu_workers.geometry import Size
from gpu_workers.inputs import regular_file
from gpu_workers.nvml import Nvml
from gpu_workers.thumbnails import Task, make
from gpu_workers.video import Shot, Video, open_video
from schemas.videos import DEFAULT_OUTPUTS, Engine, Kind, NvmlState, Poster, Reason, Storyboard
from tests.clips import load, small
from tests.gpu_workers.conftest import LIMITS

REAL = (
    *("long_1080p_lowbitrate.mp4", "portrait_4k60.mp4", "hlg10-color-test.mp4", "bt601.mp4", "tc_nasa_13013.mp4"),
    *("tc_bt709_full_range.mp4", "tc_h264_10bits.mp4", "tc_av1_video.mkv", "exo_bear-vp9-odd-dimensions.webm"),
    *("decord_video_90.mov", "decord_flipping_a_pancake.mkv"),
)


def agree(clip: Path, folder: Path) -> None:
    """The command line's outputs are the CPU's: bit by bit where frames come whole, else near."""
    made = {
        engine: make(Task(str(clip), None, DEFAULT_OUTPUTS, str(folder), engine, LIMITS, engine))
        for engine in (Engine.CPU, Engine.CPU_CLI)
    }
    for one, other in zip(made[Engine.CPU].outputs, made[Engine.CPU_CLI].outputs, strict=True):
        assert (one.kind, one.width, one.height, one.time) == (other.kind, other.width, other.height, other.time)
        if one.kind is not Kind.STORYBOARD:
            assert (folder / one.path).read_bytes() == (folder / other.path).read_bytes()
            continue
        apart = delta_e(load(folder / one.path), load(folder / other.path))
        assert apart.mean() <= 2.0
        assert cells(apart).max() <= 4.0


@pytest.mark.parametrize("name", REAL)
def test_real_clips_give_the_same_frames_and_pictures(name: str, media: Path, tmp_path: Path) -> None:
    if not (media / name).is_file():
        pytest.skip(f"{name} is not there")
    agree(media / name, tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        ("-output_ts_offset", "3.5"),
        ("-bf", "3", "-g", "12"),
        ("-vf", "setpts=PTS+gt(N\\,20)*0.37/TB", "-fps_mode", "vfr"),
        ("-pix_fmt", "yuvj420p"),
        ("-pix_fmt", "yuv420p10le"),
        ("-s", "1920x1080", "-t", "0.4"),
    ],
)
def test_made_clips_give_the_same_frames_and_pictures(options: tuple[str, ...], tmp_path: Path) -> None:
    agree(small(tmp_path / "clip.mkv", *options), tmp_path)


def wanted(**values: object) -> Frames:
    known = {"stream": 0, "coded": (1920, 1080), "deep": False, "full_range": False, "full": (1.0,), "small": (2.0,)}
    return Frames(**{**known, **values})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("coded", "least", "sizes"),
    [
        ((1920, 1080), (960, 540), [(960, 540)]),
        ((1920, 1080), (640, 360), [(960, 540)]),
        ((3840, 2160), (640, 360), [(1920, 1080), (960, 540)]),
        ((161, 121), (40, 30), [(82, 62), (42, 32)]),
        ((640, 360), (640, 360), []),
    ],
)
def test_the_gpu_halves_to_even_sizes_and_never_below_what_is_needed(
    coded: tuple[int, int], least: tuple[int, int], sizes: list[tuple[int, int]]
) -> None:
    halved = wanted(coded=coded, least=least).halvings
    assert halved == sizes
    assert all(width % 2 == height % 2 == 0 and width >= least[0] and height >= least[1] for width, height in halved)


@pytest.mark.parametrize(("deep", "form"), [(False, "nv12"), (True, "p010le")])
@pytest.mark.parametrize("chain", [Chain.DECODE, Chain.UPLOAD])
def test_on_the_gpu_samples_are_nv12_or_p010_always(chain: Chain, deep: bool, form: str) -> None:
    graph = " ".join(command.frames("ffmpeg", "clip", wanted(deep=deep, least=(480, 270)), chain, 3))
    assert graph.count("scale_cuda") == graph.count(f"format={form}:") > 0
    assert graph.count("hwdownload") == 2
    for place in graph.split("hwdownload")[1:]:
        assert place.partition("format=")[2].startswith(form)
    if chain is Chain.UPLOAD:
        assert "hwupload_cuda" in graph
        assert "cuda=gpu:3" in graph
    else:
        assert "-hwaccel cuda -hwaccel_device 3 -hwaccel_output_format cuda" in graph


def test_the_cure_puts_the_samples_right_before_they_go_up() -> None:
    cured = " ".join(command.classic("ffmpeg", "clip", "out.png", (1280, 720), 100, cured=True))
    steps = ["format=nv12", "hwupload_cuda", "thumbnail_cuda=100", "scale_cuda=1280:720", "hwdownload", "format=nv12"]
    places: list[int] = []
    for step in steps:
        places.append(cured.index(step, places[-1] + 1 if places else 0))
    assert places == sorted(places)


@pytest.mark.parametrize("chain", [Chain.DECODE, Chain.UPLOAD])
@pytest.mark.parametrize("deep", [False, True])
def test_a_real_ffmpeg_parses_the_graphs_and_refuses_them_only_for_want_of_a_device(
    chain: Chain, deep: bool, tmp_path: Path
) -> None:
    ffmpeg = program()
    assert ffmpeg is not None
    filters = subprocess.check_output([ffmpeg, "-hide_banner", "-filters"], text=True)
    if "scale_cuda" not in filters:
        pytest.skip("this ffmpeg was built without CUDA's filters")
    if Nvml().snapshot().state is NvmlState.OK:
        pytest.skip("there is a GPU; tests/gpu has more")
    clip = small(tmp_path / "clip.mp4")
    asked = wanted(coded=(160, 120), deep=deep, full=(0.0,), small=(1.0,), least=(40, 30))
    done = subprocess.run(command.frames(ffmpeg, str(clip), asked, chain, 0), capture_output=True, check=False)
    said = done.stderr.decode(errors="replace")
    assert done.returncode != 0
    assert "libcuda" in said or "CUDA" in said or "Device creation failed" in said
    assert "No such filter" not in said
    assert "not found" not in said.lower()


def test_ffmpegs_end_is_an_error_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = small(tmp_path / "clip.mp4")
    monkeypatch.setattr(command, "chosen", lambda *_: "no such function(1)")
    with regular_file(str(clip), None, LIMITS) as file, open_video(file, LIMITS) as video:
        source = CommandVideo(video, file, Chain.SOFTWARE)
        with pytest.raises(CommandFailed) as caught:
            list(source.frames([0.0, 1.0], {}))
    assert caught.value.tail


def test_what_fails_on_the_gpu_is_done_by_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if Nvml().snapshot().state is NvmlState.OK:
        pytest.skip("there is a GPU; tests/gpu has more")
    clip = small(tmp_path / "clip.mp4")
    monkeypatch.setattr(router, "cheapest", lambda *_: Engine.CUDA)
    outputs = (Poster(), Storyboard())
    made = make(Task(str(clip), None, outputs, str(tmp_path), "auto", LIMITS, None, 0))
    assert made.engine is Engine.CPU
    with pytest.raises(Failure) as caught:
        make(Task(str(clip), None, outputs, str(tmp_path), "asked", LIMITS, Engine.CUDA, 0))
    assert caught.value.reason is Reason.CRASHED


class Half:
    """An engine that loses every second frame."""

    def __init__(self, video: Video) -> None:
        self._video = video

    def frames(
        self, wanted: Sequence[float], small: Mapping[float, Size], exact: AbstractSet[float] = frozenset()
    ) -> Iterator[tuple[float, Shot]]:
        yield from self._video.frames(wanted[::2], small, exact)


def test_an_engine_that_loses_frames_without_a_word_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = thumbnails.source_of

    @contextmanager
    def lossy(engine: Engine, task: Task, file: int, video: Video, _parts: object = None) -> Iterator[Any]:
        with right(Engine.CPU, task, file, video) as source:
            yield source if engine is Engine.CPU else Half(video)

    monkeypatch.setattr(thumbnails, "source_of", lossy)
    monkeypatch.setattr(router, "cheapest", lambda *_: Engine.CUDA)
    clip = small(tmp_path / "clip.mp4")
    assert make(Task(str(clip), None, DEFAULT_OUTPUTS, str(tmp_path), "auto", LIMITS, None, 0)).engine is Engine.CPU
