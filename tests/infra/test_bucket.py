"""The video path with a bucket in place of folders: API and media worker have no disk in common."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gpu_workers.sources import IN_PARTS_FROM
from infra.service.settings import Settings
from schemas.videos import RECORD
from tests.clips import small
from tests.conftest import SettingsMaker
from tests.gateway import Gateway
from tests.services import Services
from tests.video_services import Api

LIMIT = 60.0  # seconds that a test waits for what must come


@pytest.fixture
def bucket(gateway: Gateway) -> dict[str, Any]:
    """Settings of a bucket of this test's own."""
    return gateway.bucket()


def eventually(found: Callable[[], bool], what: Callable[[], object]) -> None:
    deadline = time.monotonic() + LIMIT
    while not found():
        assert time.monotonic() < deadline, what()
        time.sleep(0.1)


def files(settings: Settings) -> list[str]:
    """What lies in the folders of videos, outputs, private things and files under way."""
    folders = (settings.videos, settings.thumbnails, settings.video_private, settings.video_scratch)
    return [path.name for folder in folders if folder.exists() for path in folder.rglob("*")]


@pytest.mark.long
def test_from_upload_to_files_and_nothing(
    installation: Settings,
    make_settings: SettingsMaker,
    services: Services,
    gateway: Gateway,
    bucket: dict[str, Any],
    tmp_path: Path,
) -> None:
    changed = Settings(state=tmp_path, **bucket)
    given = {name: getattr(changed, name) for name in bucket}
    at_api = installation.model_copy(update=given)
    at_media = make_settings(**given)
    assert at_media.state != at_api.state
    clip = small(tmp_path / "clip.mp4", seconds=2).read_bytes()
    worker = services.start("worker", installation, wait=False)
    media = services.start("media", at_media, wait=False)
    videos = services.start("videos", at_api, wait=False)
    for service in (worker, media, videos):
        service.wait_ready()
    api = Api(at_api)

    answer = api.upload(clip, key="k", outputs=[{"kind": "poster", "width": 160}, {"kind": "storyboard", "width": 64}])
    assert answer.status == 202
    job = answer.body["id"]
    assert gateway.objects(bucket)[f"private/uploads/{job}"] == clip  # before the answer
    assert api.upload(clip, key="k", outputs=[{"kind": "poster", "width": 160}, {"kind": "storyboard", "width": 64}])
    eventually(lambda: api.get(job).body.get("state") == "done", lambda: api.get(job).body)
    outputs = api.get(job).body["outputs"]
    assert [output["kind"] for output in outputs] == ["poster", "storyboard", "webvtt", "tiles"]
    objects = gateway.objects(bucket)
    names = {f"outputs/{output['path']}" for output in outputs} | {f"outputs/{job}/{RECORD}"}
    assert {name for name in objects if name.startswith("outputs/")} == names

    for output in outputs:
        whole = api.ask("GET", output["url"])
        assert whole.status == 200
        content = objects[f"outputs/{output['path']}"]
        if output["kind"] == "tiles":  # JSON, which comes as an object
            assert whole.body == json.loads(content)
        else:
            assert whole.body == content
            part = api.ask("GET", output["url"], Range="bytes=5-14")
            assert (part.status, part.body) == (206, content[5:15])
        assert api.ask("GET", output["url"], If_None_Match=whole.headers["etag"]).status == 304
    poster = tmp_path / "poster.jpg"
    poster.write_bytes(objects[f"outputs/{outputs[0]['path']}"])
    with Image.open(poster) as image:
        assert image.size == (outputs[0]["width"], outputs[0]["height"])

    padding = IN_PARTS_FROM.to_bytes(4, "big") + b"free" + bytes(IN_PARTS_FROM - 8)  # a box that nobody reads
    large = api.upload(clip + padding, outputs=[{"kind": "poster", "width": 160}]).body["id"]
    eventually(lambda: api.get(large).body.get("state") == "done", lambda: api.get(large).body)
    found = api.get(large).body
    assert found["source"]["bytes"] == len(clip) + len(padding)
    assert gateway.objects(bucket)[f"outputs/{found['outputs'][0]['path']}"] == poster.read_bytes()

    bad = api.upload(b"no video at all" * 100).body["id"]
    eventually(lambda: api.get(bad).body["state"] == "failed", lambda: api.get(bad).body)
    assert api.get(bad).body["reason"] == "unsupported_format"
    for gone in (job, large, bad):
        assert api.delete(gone).status == 204
        assert api.get(gone).status == 404
    left = gateway.objects(bucket)
    assert {name.split("/")[1] for name in left} == {"deleted", "requests"}
    for service in (media, videos, worker):
        assert service.stop() == 0
    assert files(at_api) == []
    assert files(at_media) == []
    for service in (media, videos):
        assert bucket["s3_secret_access_key"] not in service.log.read_text()


@pytest.mark.long
def test_a_bucket_that_is_away_is_waited_for(
    installation: Settings, services: Services, gateway: Gateway, bucket: dict[str, Any], tmp_path: Path
) -> None:
    changed = Settings(state=tmp_path, **{**bucket, "s3_endpoint": "http://127.0.0.1:1"})
    settings = installation.model_copy(update={name: getattr(changed, name) for name in bucket})
    service = services.start("videos", settings)
    api = Api(settings)
    answer = api.upload(b"x")
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) > 0
    assert api.ask("GET", "/livez").status == 200
    assert service.stop() == 0
    assert files(settings) == []


def test_large_objects_come_and_go_whole(gateway: Gateway, bucket: dict[str, Any], tmp_path: Path) -> None:
    """Of several parts and ranges."""
    from infra.service.s3 import PART, RANGE, Bucket

    store = Bucket(Settings(state=tmp_path, **bucket), "private")
    piece = hashlib.sha256(b"x").digest() * (1 << 15)
    size = 3 * PART + 12345
    content = (piece * (size // len(piece) + 1))[:size]
    (tmp_path / "file").write_bytes(content)
    store.take("uploads/x", tmp_path / "file")
    assert not (tmp_path / "file").exists()
    assert b"".join(store.pieces("uploads/x", 0, size)) == content
    assert b"".join(store.pieces("uploads/x", RANGE - 3, RANGE + 7)) == content[RANGE - 3 : 2 * RANGE + 4]
