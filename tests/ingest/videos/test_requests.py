"""What a request must be to become a job."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from ingest.videos.problems import Problem
from ingest.videos.requests import UploadRequest, VideoRequest, allowed, read
from schemas.outputs import DEFAULT_OUTPUTS, MOST_OUTPUTS, Format, Poster, Preview, Wanted
from schemas.videos import InFolder, Job, decode_job, encode, new_id

LARGEST = 100
README = Path(__file__).parents[3] / "README.md"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of videos, beside things that are none of its business."""
    (tmp_path / "secret.mp4").write_bytes(b"x")
    videos = tmp_path / "videos"
    (videos / "deep").mkdir(parents=True)
    (videos / "a.mp4").write_bytes(b"x")
    (videos / "deep" / "b.mp4").write_bytes(b"x")
    (videos / "large.mp4").write_bytes(b"x" * (LARGEST + 1))
    (videos / "link.mp4").symlink_to("deep/b.mp4")
    (videos / "out.mp4").symlink_to(tmp_path / "secret.mp4")
    (videos / "nowhere.mp4").symlink_to(tmp_path / "nothing.mp4")
    (videos / "up").symlink_to("..")
    (videos / "round").symlink_to("round")
    os.mkfifo(videos / "pipe")
    odd = os.fsencode(videos) + b"/\xff.mp4"
    Path(os.fsdecode(odd)).write_bytes(b"x")
    (videos / "odd.mp4").symlink_to(os.fsdecode(odd))
    return videos


def asked_for(folder: Path, body: bytes) -> tuple[VideoRequest, str]:
    """What a body asks for, and the file that it names."""
    asked = read(body, VideoRequest)
    assert isinstance(asked.path, str)
    return asked, str(allowed(asked.path, folder, LARGEST))


def refused(folder: Path, body: bytes) -> Problem:
    with pytest.raises(Problem) as caught:
        asked_for(folder, body)
    return caught.value


@pytest.mark.parametrize("path", ["a.mp4", "deep/b.mp4", "./deep/../a.mp4", "link.mp4", "up/videos/a.mp4"])
def test_a_path_below_the_folder_is_taken_with_its_links_resolved(folder: Path, path: str) -> None:
    asked, file = asked_for(folder, json.dumps({"path": path}).encode())
    assert file == os.path.realpath(folder / path)
    assert asked.outputs == DEFAULT_OUTPUTS
    job = Job(new_id(1), 1, InFolder(file), 1, asked.outputs)
    assert decode_job(encode(job)) == job


def test_an_absolute_path_and_a_folder_that_is_a_link(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.symlink_to(folder)
    for path in (folder / "a.mp4", other / "a.mp4"):
        assert asked_for(other, json.dumps({"path": str(path)}).encode())[1] == str(folder / "a.mp4")


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("../secret.mp4", "outside"),
        ("../nothing.mp4", "outside"),  # the same answer, whether it is there or not
        ("/etc/passwd", "outside"),
        ("out.mp4", "outside"),
        ("nowhere.mp4", "outside"),
        ("up/secret.mp4", "outside"),
        ("up", "outside"),
        ("none.mp4", "no such file"),
        ("a.mp4/b", "no such file"),
        ("round", "cannot be looked at"),
        ("x" * 1000, "cannot be looked at"),
        (".", "not a regular file"),
        ("deep", "not a regular file"),
        ("pipe", "not a regular file"),
        ("large.mp4", "101 bytes, at most 100"),
        ("a\0.mp4", "no file can have such a path"),
        ("odd.mp4", "no file can have such a path"),  # its name is no text
    ],
)
def test_a_path_that_is_refused(folder: Path, path: str, detail: str) -> None:
    problem = refused(folder, json.dumps({"path": path}).encode())
    assert (problem.status, problem.field) == (422, "path")
    assert detail in problem.detail
    assert str(folder) not in problem.detail


@pytest.mark.parametrize("body", [b"", b"{", b"a.mp4", b"\xff\xfe", b'{"path": "a.mp4"} x', b'{"path": "\\ud800"}'])
def test_a_body_that_is_not_json(folder: Path, body: bytes) -> None:
    problem = refused(folder, body)
    assert problem.status == 400
    assert '{"path"' in problem.detail


@pytest.mark.parametrize(
    ("asked", "field", "detail"),
    [
        ([], "", "`object`"),
        ({}, "", "`path`"),
        ({"path": ""}, "path", "length >= 1"),
        ({"path": 1}, "path", "`str`"),
        ({"path": "x" * 5000}, "path", "length <= 4096"),
        ({"path": "a.mp4", "url": "http://h/v"}, "", "`url`"),
        ({"url": ""}, "url", "length >= 1"),
        ({"uri": "http://h/v"}, "", "`uri`"),
        ({"path": "a.mp4", "site": 0}, "site", ">= 1"),
        ({"path": "a.mp4", "outputs": []}, "outputs", "length >= 1"),
        ({"path": "a.mp4", "outputs": {}}, "outputs", "`array`"),
        ({"path": "a.mp4", "outputs": [{"kind": "poster"}] * (MOST_OUTPUTS + 1)}, "outputs", "length <= 16"),
        ({"path": "a.mp4", "outputs": [{}]}, "outputs[0]", "`kind`"),
        (
            {"path": "a.mp4", "outputs": [{"kind": "gif"}]},
            "outputs[0].kind",
            "poster, frames, at, scenes, storyboard, preview",
        ),
        ({"path": "a.mp4", "outputs": [{"kind": "poster", "width": 15}]}, "outputs[0].width", ">= 16"),
        ({"path": "a.mp4", "outputs": [{"kind": "poster", "width": 4097}]}, "outputs[0].width", "<= 4096"),
        ({"path": "a.mp4", "outputs": [{"kind": "poster", "width": "64"}]}, "outputs[0].width", "`int`"),
        ({"path": "a.mp4", "outputs": [{"kind": "poster", "tiles": 4}]}, "outputs[0]", "`tiles`"),
        ({"path": "a.mp4", "outputs": [{"kind": "storyboard", "tiles": 1001}]}, "outputs[0].tiles", "<= 1000"),
        ({"path": "a.mp4", "outputs": [{"kind": "poster"}] * 2}, "outputs[1]", "same file"),
        ({"path": "a.mp4", "outputs": [{"kind": "storyboard", "tiles": n} for n in (4, 9)]}, "outputs[1]", "same file"),
    ],
)
def test_a_body_that_asks_for_what_there_is_not(folder: Path, asked: Any, field: str, detail: str) -> None:
    problem = refused(folder, json.dumps(asked).encode())
    assert (problem.status, problem.field) == (422, field)
    assert detail in problem.detail


def test_the_readme_asks_rightly(folder: Path) -> None:
    text = README.read_text("utf-8")
    (body,) = re.findall(r"curl [^\n]*/v1/videos -d '([^']*)'", text)
    (beside,) = re.findall(r"-F 'request=([^']*)'", text)
    (folder / json.loads(body)["path"]).write_bytes(b"x")
    asked_for(folder, body.encode())
    asked, _ = asked_for(folder, json.dumps(json.loads(body) | json.loads(beside)).encode())
    assert asked.outputs == (Poster(width=640, format=Format.AVIF), Preview())
    assert read(beside.encode(), UploadRequest).outputs == asked.outputs


def test_the_readme_names_every_output_and_its_fields() -> None:
    rows = dict(re.findall(r"^\| `([a-z]+)` \| [^|]* \| ([^|]*) \|$", README.read_text("utf-8"), re.MULTILINE))
    wanted = {kind.__struct_config__.tag: set(kind.__struct_fields__) for kind in get_args(Wanted)}
    assert rows.keys() >= wanted.keys()
    for kind, fields in wanted.items():
        assert set(re.findall(r"`([a-z]+)`", rows[kind])) >= fields
