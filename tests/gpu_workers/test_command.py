from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpu_workers.nvml import Nvml
from schemas.videos import NvmlState
from tests.clips import cues, load, small

TOP = Path(__file__).parents[2]


def thumbnail(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run("thumbnail", *arguments)


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VEILSTREAM_")}
    command = [sys.executable, "-m", "infra.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=TOP, env=environment, capture_output=True, text=True, check=False)


def test_one_file_gives_three_and_one_line_of_json(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    clip = small(tmp_path / "clip.mp4")
    done = thumbnail(clip, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    answer = json.loads(line)
    assert answer["engine"] == "cpu"
    assert answer["source"] == {
        "width": 160,
        "height": 120,
        "duration": 2.0,
        "rotation": 0,
        "codec": "h264",
        "pixel_format": "yuv420p",
        "bytes": clip.stat().st_size,
    }
    assert [output["kind"] for output in answer["outputs"]] == ["poster", "storyboard", "webvtt", "tiles"]
    assert set(answer["outputs"][0]) >= {"kind", "path", "width", "height", "time", "score", "placeholder", "colour"}
    assert answer["seconds"] > 0
    poster, sheet, vtt, _ = (Path(output["path"]) for output in answer["outputs"])
    assert load(poster).shape == (120, 160, 3)
    assert load(sheet).shape == (answer["outputs"][1]["height"], answer["outputs"][1]["width"], 3)
    assert cues(vtt)


def test_what_is_wanted_is_said_as_to_the_api(tmp_path: Path) -> None:
    wanted = ("poster:width=64,format=webp", "at:times=0.5+1,width=64", "storyboard:index=bif", "preview:format=mp4")
    options = [part for text in wanted for part in ("--output", text)]
    done = thumbnail(small(tmp_path / "clip.mp4"), "--out", tmp_path / "out", *options, "--json")
    assert done.returncode == 0, done.stderr
    outputs = json.loads(done.stdout)["outputs"]
    assert [Path(output["path"]).name for output in outputs] == [
        *("poster-64.webp", "at-64-001.jpg", "at-64-002.jpg"),
        *("storyboard-160.jpg", "storyboard-160.bif", "preview-320.mp4"),
    ]
    assert [output["time"] for output in outputs[1:3]] == [0.48, 1.0]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("painting", "Invalid value 'painting'"),
        ("poster:width=5", ">= 16"),
        ("poster:width", "KEY=VALUE"),
        ("poster:size=5", "unknown field `size`"),
        ("at", "missing required field `times`"),
        ("poster:format=bmp", "Invalid enum value 'bmp'"),
    ],
)
def test_what_there_is_not_is_said_in_a_line(text: str, why: str, tmp_path: Path) -> None:
    done = thumbnail(tmp_path / "clip.mp4", "--out", tmp_path, "--output", text)
    assert done.returncode == 2
    assert why in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr


def test_a_bad_file_is_an_error_with_a_reason(tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_text("no video")
    done = thumbnail(bad, "--out", tmp_path, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout.splitlines()[-1])["reason"] == "unsupported_format"
    assert "bad.mp4" in done.stderr


@pytest.mark.parametrize("engine", ["cuda", "cuda-cli"])
def test_an_engine_that_is_not_there_is_an_error_in_a_line(engine: str, tmp_path: Path) -> None:
    if Nvml().snapshot().state is NvmlState.OK:
        pytest.skip("there is a GPU")
    done = thumbnail(small(tmp_path / "clip.mp4"), "--out", tmp_path, "--engine", engine, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout.splitlines()[-1])["reason"] == "crashed"
    assert "Traceback" not in done.stderr


def test_the_command_line_makes_what_the_cpu_makes(tmp_path: Path) -> None:
    clip = small(tmp_path / "clip.mp4")
    for engine in ("cpu", "cpu-cli"):
        done = thumbnail(clip, "--out", tmp_path / engine, "--engine", engine, "--json")
        assert json.loads(done.stdout)["engine"] == engine
    for path in (tmp_path / "cpu").iterdir():
        assert path.read_bytes() == (tmp_path / "cpu-cli" / path.name).read_bytes()


def test_gpus_are_told_without_one_too() -> None:
    done = run("gpus", "--json")
    answer = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert answer["nvml"] in list(NvmlState)
    assert (answer["nvml"] == "ok") == bool(answer["gpus"])
    assert run("gpus").stdout
