"""The video API as a process, on the real broker and the real engine. Every answer is held against /openapi.json."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from kafka import KafkaConsumer, TopicPartition
from openapi_spec_validator import validate

from infra import sites
from infra.local.stack import Stack
from infra.service.settings import Settings
from infra.service.storage import Storage, storage
from ingest.videos.requests import LONGEST_BODY
from schemas.packets import Role
from schemas.topics import VIDEO_JOBS
from schemas.videos import (
    RECORD,
    Fetched,
    InFolder,
    Job,
    Kind,
    Output,
    Result,
    State,
    Storyboard,
    Uploaded,
    decode_job,
    deleted_key,
    encode,
    new_id,
    output_key,
    upload_key,
    url_key,
)
from tests import video_contract
from tests.conftest import SettingsMaker, Starter
from tests.services import Service, Services
from tests.video_services import BOUNDARY, FORM, Answer, Api, form, told, video_api

LIMIT = 60.0  # seconds that a test waits for what must come
CLIP = b"not looked into here"


@pytest.fixture
def installation(installation: Settings) -> Settings:
    """With one file in the folder, and a second site."""
    installation.videos.mkdir()
    (installation.videos / "a.mp4").write_bytes(CLIP)
    sites.add(installation.sites, name="Other", number=2)
    return installation


@pytest.fixture
def service(installation: Settings, services: Services) -> Service:
    """A running API."""
    return services.start("videos", installation)


@pytest.fixture
def api(service: Service) -> Api:
    """A client of it, with a token that may write on site 1."""
    return Api(service.settings)


@pytest.fixture
def kept(installation: Settings) -> Storage:
    """What it keeps."""
    return storage(installation)


def client(settings: Settings, site: int | None, role: Role) -> Api:
    """A client with a token of its own, made before the API starts."""
    return Api(settings, sites.add_token(settings.sites, site, role))


def jobs(settings: Settings) -> list[Job]:
    """All that is on `video.jobs`."""
    consumer: Any = KafkaConsumer(bootstrap_servers=settings.kafka.split(","), group_id=None)
    try:
        topic = settings.topic(VIDEO_JOBS)
        places = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
        consumer.assign(places)
        consumer.seek_to_beginning(*places)
        ends = consumer.end_offsets(places)
        found = []
        while any(consumer.position(place) < ends[place] for place in places):
            for records in consumer.poll(timeout_ms=100).values():
                found += [decode_job(record.value) for record in records]
        return found
    finally:
        consumer.close()


def eventually(found: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LIMIT
    while not found():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.1)


def is_problem(answer: Answer, status: int, field: str = "") -> bool:
    """Whether an answer is an error as RFC 9457 has it, and says something."""
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.body["status"] == status
    assert answer.body["title"]
    assert [error["field"] for error in answer.body.get("errors", [])] == ([field] if field else [])
    return bool(answer.body["detail"])


def left(settings: Settings) -> list[str]:
    """Files of uploads, whole or under way."""
    folders = (settings.video_scratch, settings.video_private / "uploads")
    return [path.name for folder in folders if folder.exists() for path in folder.iterdir()]


def done(kept: Storage, job: str, site: int, **files: bytes) -> None:
    """Puts in place what a media worker leaves of a job; names of files are written with underscores."""
    outputs = []
    for name, content in files.items():
        path = output_key(job, name.replace("_", "."))
        kept.outputs.put(path, content)
        outputs.append(Output(Kind.POSTER, path, 1, 1, 0.0))
    kept.outputs.put(
        output_key(job, RECORD), encode(Result(job, State.DONE, 1, 1, 1, outputs=tuple(outputs), site=site))
    )


def test_a_job_that_is_accepted_is_on_the_log(api: Api, service: Service) -> None:
    answer = api.post(path="a.mp4", outputs=[{"kind": "storyboard", "width": 64, "tiles": 4}])
    assert answer.status == 202
    (job,) = jobs(api.settings)
    assert answer.body == {"id": job.id, "site": 1, "state": State.QUEUED, "url": f"/v1/videos/{job.id}"}
    assert answer.headers["location"] == f"/v1/videos/{job.id}"
    assert job.origin == InFolder(str((api.settings.videos / "a.mp4").resolve()))
    assert (job.site, job.outputs) == (1, (Storyboard(width=64, tiles=4),))
    with told(api.settings) as results:
        results.wait(lambda told: told.of(job.id) == ["queued 0"])
        assert results.last(job.id).site == 1
    # No stream worker runs here, so the table does not know it yet.
    state = api.get(job.id)
    assert (state.status, state.body["state"], state.body["outputs"]) == (200, State.QUEUED, [])
    assert state.headers["cache-control"] == "no-store"
    assert service.stop() == 0
    log = service.log.read_text()
    assert "a.mp4" not in log
    assert api.token not in log


def test_what_is_refused(api: Api, tmp_path: Path) -> None:
    (tmp_path / "outside.mp4").write_bytes(b"x")
    (api.settings.videos / "escape.mp4").symlink_to(tmp_path / "outside.mp4")
    assert is_problem(api.ask("POST", "/v1/videos", "{"), 400)
    assert is_problem(api.ask("POST", "/v1/videos", "{}", "application/x-www-form-urlencoded"), 415)
    assert is_problem(api.ask("POST", "/v1/videos"), 415)
    assert is_problem(api.post(), 422)
    for path in ("escape.mp4", "../outside.mp4", str(tmp_path / "outside.mp4"), "none.mp4"):
        assert is_problem(api.post(path=path), 422, "path")
    answer = api.post(path="a.mp4", outputs=[{"kind": "poster"}, {"kind": "poster", "width": 1}])
    assert is_problem(answer, 422, "outputs[1].width")
    assert is_problem(api.ask("POST", "/v1/videos", b" " * (LONGEST_BODY + 1)), 413)
    for key in ("", "x" * 256, "\x85"):
        assert is_problem(api.post(path="a.mp4", key=key), 400)
    for job in (new_id(1), "nothing", "01A215A2-4F01-7CF8-9CA9-DAC3CB8FA240", "%27%20OR%201%3D1", "../../etc/passwd"):
        assert is_problem(api.get(job), 404)
        assert is_problem(api.delete(job), 404)
    for query, field in (
        ("?limit=0", "limit"),
        ("?limit=501", "limit"),
        ("?limit=x", "limit"),
        ("?state=deleted", "state"),
        ("?cursor=x", "cursor"),
        ("?site=x", "site"),
        ("?sites=1", "sites"),
    ):
        assert is_problem(api.list(query), 422, field)
    for path in ("/v1/nothing", "/v1/videos/", "/", "/v1/videos/a/b/c"):
        assert is_problem(api.ask("GET", path), 404)
    answer = api.ask("DELETE", "/v1/videos")
    assert is_problem(answer, 405)
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "POST"}
    assert jobs(api.settings) == []
    assert api.post(path="a.mp4").status == 202  # nothing of this has hurt it


def test_who_may_do_what(installation: Settings, kept: Storage, services: Services) -> None:
    writer, viewer = client(installation, 1, Role.WRITE), client(installation, 1, Role.VIEW)
    other, superuser = client(installation, 2, Role.ADMIN), client(installation, None, Role.SUPERUSER)
    both = client(installation, 1, Role.WRITE)
    site = installation.sites / "2.toml"
    hashes = (installation.sites / "1.toml").read_text().splitlines()
    site.write_text(site.read_text() + next(line for line in hashes if "write" in line) + "\n")
    services.start("videos", installation)
    nobody, odd = Api(installation, ""), Api(installation, "guessed")
    job = writer.post(path="a.mp4").body["id"]
    done(kept, job, 1, poster_jpg=b"x")
    file = f"/v1/videos/{job}/poster.jpg"

    for stranger, challenge in ((nobody, 'Bearer realm="veilstream"'), (odd, 'error="invalid_token"')):
        for answer in (
            stranger.post(path="a.mp4"),
            stranger.upload(CLIP),
            stranger.list(),
            stranger.get(job),
            stranger.delete(job),
            stranger.ask("GET", file),
            stranger.ask("GET", "/metrics"),
        ):
            assert is_problem(answer, 401)
            assert challenge in answer.headers["www-authenticate"]
    for path in ("/livez", "/readyz", "/openapi.json"):
        assert nobody.ask("GET", path).status == 200
    assert b"veilstream_video_api_answers_total" in viewer.ask("GET", "/metrics").body

    # A job of another site is not there, whatever the role.
    for answer in (other.get(job), other.delete(job), other.ask("GET", file)):
        assert is_problem(answer, 404)
    assert other.list().body == {"videos": [], "next": None}
    assert is_problem(other.list("?site=1"), 403, "site")
    assert is_problem(other.post(path="a.mp4", site=1), 403, "site")

    assert viewer.get(job).body["id"] == job
    assert viewer.ask("GET", file).body == b"x"
    assert viewer.list("?site=1").body["videos"] == [viewer.get(job).body]
    for answer in (viewer.post(path="a.mp4"), viewer.upload(CLIP), viewer.delete(job)):
        assert is_problem(answer, 403)
        assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]

    # Who may write on several sites says which; a superuser's site must be one.
    for many in (both, superuser):
        assert is_problem(many.post(path="a.mp4"), 422, "site")
        assert is_problem(many.upload(CLIP), 422, "site")
        second = many.post(path="a.mp4", site=2).body
        assert second["site"] == 2
        assert {video["site"] for video in many.list().body["videos"]} == {1, 2}
        assert [video["id"] for video in many.list("?site=1").body["videos"]] == [job]
    assert is_problem(superuser.post(path="a.mp4", site=3), 422, "site")
    assert is_problem(both.post(path="a.mp4", site=3), 403, "site")
    assert superuser.delete(job).status == 204


def test_a_token_counts_as_soon_and_as_long_as_it_is_written_down(api: Api, service: Service) -> None:
    settings = api.settings
    later = client(settings, 2, Role.VIEW)
    eventually(lambda: later.list().status == 200, "the new token is in force")
    (settings.sites / "2.toml").write_text("timezone = 1\n")
    eventually(lambda: "2.toml: " in service.log.read_text(), "the wrong file is named")
    assert later.list().status == 200
    (settings.sites / "2.toml").write_text('name = "Other"\n')
    eventually(lambda: later.list().status == 401, "the token is in force no more")
    assert api.list().status == 200


def test_what_is_open_is_a_setting(make_settings: SettingsMaker, installation: Settings, services: Services) -> None:
    closed = make_settings(state=installation.state, video_open="metrics")
    (services.start("videos", closed, wait=False))
    nobody, anybody = Api(closed, ""), Api(closed)

    def open_() -> bool:
        try:
            return nobody.ask("GET", "/metrics").status == 200
        except OSError:  # the process has just begun
            return False

    eventually(open_, "it answers")
    for path in ("/livez", "/readyz", "/openapi.json"):
        assert is_problem(nobody.ask("GET", path), 401)
        assert anybody.ask("GET", path).status in (200, 503)
    assert is_problem(nobody.list(), 401)


def test_an_upload_is_durable_and_a_job(api: Api, kept: Storage) -> None:
    answer = api.upload(CLIP, outputs=[{"kind": "storyboard", "width": 64, "tiles": 4}])
    assert answer.status == 202
    (job,) = jobs(api.settings)
    assert job == Job(
        answer.body["id"], 1, Uploaded(), job.queued_ms, (Storyboard(width=64, tiles=4),), bytes=len(CLIP)
    )
    assert kept.private.read(upload_key(job.id)) == CLIP
    assert left(api.settings) == [job.id]
    bare = api.ask("POST", "/v1/videos", form(file=b"only the file"), FORM)
    assert kept.private.read(upload_key(bare.body["id"])) == b"only the file"
    # By a real client, in chunks of its own and with the JSON last.
    chunked = api.ask("POST", "/v1/videos", iter([form(file=b"abc", request=b"{}")]), FORM)
    assert kept.private.read(upload_key(chunked.body["id"])) == b"abc"
    path = kept.private.local(upload_key(job.id))
    assert path is not None
    assert path.stat().st_mode & 0o777 == 0o600


def test_uploads_that_are_refused_leave_no_file(
    make_settings: SettingsMaker, installation: Settings, services: Services
) -> None:
    settings = make_settings(
        state=installation.state, video_upload_bytes=1 << 20, video_upload_idle_seconds=1.0, video_uploads=1
    )
    services.start("videos", settings)
    api = Api(settings)
    large = b"x" * ((1 << 20) + 1)

    def send(body: bytes | Any, kind: str = FORM) -> Answer:
        return api.ask("POST", "/v1/videos", body, kind)

    assert is_problem(api.upload(large), 413)
    assert is_problem(send(iter([form(file=large)])), 413)  # without a length before
    assert is_problem(send(form(file=b"x" * (2 << 20))), 413)  # by its length alone
    assert is_problem(send(form(file=CLIP, request=b" " * (LONGEST_BODY + 1))), 413)
    assert is_problem(send(form(file=CLIP, request=b"{")), 400)
    assert is_problem(send(form(file=CLIP, request=b'{"path": "a.mp4"}')), 422, "request")
    assert is_problem(send(form(file=CLIP, request=b'{"outputs": []}')), 422, "request.outputs")
    assert is_problem(send(form(request=b"{}")), 422, "file")
    assert is_problem(send(form(video=CLIP)), 422, "video")
    assert is_problem(send(form(file=CLIP)[:-20]), 400)
    assert is_problem(send(CLIP), 400)
    assert is_problem(send(b""), 400)
    assert is_problem(send(form(file=CLIP), "multipart/form-data"), 400)
    assert is_problem(send(form(file=CLIP).replace(b"--" + BOUNDARY.encode() + b"--", form(file=CLIP))), 422, "file")
    assert jobs(settings) == []
    assert left(settings) == []
    assert api.upload(b"x" * (1 << 20)).status == 202  # as large as may be

    head = f"POST /v1/videos HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {api.token}\r\nContent-Type: {FORM}\r\n"
    began = head.encode() + b"Content-Length: 900000\r\n\r\n" + form(file=large)[:500_000]
    whole = left(settings)
    # One that falls silent, and meanwhile there is no place for another.
    with socket.create_connection(("127.0.0.1", settings.video_port), timeout=LIMIT) as silent:
        silent.sendall(began)
        eventually(lambda: len(left(settings)) == len(whole) + 1, "it has begun")
        assert is_problem(api.upload(CLIP), 503)
        assert b" 408 " in silent.recv(1000)
    assert left(settings) == whole
    # One that is cut off.
    with socket.create_connection(("127.0.0.1", settings.video_port), timeout=LIMIT) as cut:
        cut.sendall(began)
        eventually(lambda: len(left(settings)) == len(whole) + 1, "it has begun")
    eventually(lambda: left(settings) == whole, "nothing is left of it")
    assert len(jobs(settings)) == 1
    assert api.upload(CLIP).status == 202


def test_an_upload_that_is_killed_leaves_no_file(api: Api, service: Service) -> None:
    head = f"POST /v1/videos HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {api.token}\r\nContent-Type: {FORM}\r\n"
    with socket.create_connection(("127.0.0.1", api.settings.video_port), timeout=LIMIT) as half:
        half.sendall(head.encode() + b"Content-Length: 900000\r\n\r\n" + form(file=b"x" * 500_000))
        eventually(lambda: len(left(api.settings)) == 1, "it has begun")
        service.kill()
    service.start()
    eventually(lambda: left(api.settings) == [], "nothing is left of it")
    assert jobs(api.settings) == []


def test_memory_does_not_grow_with_an_upload(api: Api, service: Service, kept: Storage) -> None:
    size = 400 << 20
    piece = b"0123456789abcdef" * (1 << 16)
    start, end = form(file=b"|").split(b"|")

    def pieces() -> Any:
        yield start
        yield from (piece for _ in range(size // len(piece)))
        yield end

    assert api.upload(CLIP).status == 202  # so that all is loaded
    process, most = psutil.Process(service.pid), 0
    before, ended = process.memory_info().rss, threading.Event()

    def look() -> None:
        nonlocal most
        while not ended.wait(0.01):
            most = max(most, process.memory_info().rss)

    looking = threading.Thread(target=look)
    looking.start()
    answer = api.ask("POST", "/v1/videos", pieces(), FORM)
    ended.set()
    looking.join()
    assert answer.status == 202
    stat = kept.private.stat(upload_key(answer.body["id"]))
    assert stat is not None
    assert stat.size == size
    assert most - before < 64 << 20, f"{(most - before) >> 20} MiB more while {size >> 20} MiB came"


def test_a_url_is_kept_apart_from_the_job(
    make_settings: SettingsMaker, installation: Settings, services: Services, kept: Storage
) -> None:
    settings = make_settings(state=installation.state, outbound_schemes="https,http", outbound_ports="443,8443")
    service = services.start("videos", settings)
    api = Api(settings)
    url = "https://video.example:8443/jane.mp4?signature=s3cret"
    answer = api.post(url=url, key="k")
    assert answer.status == 202
    (job,) = jobs(settings)
    assert (job.id, job.origin) == (answer.body["id"], Fetched())
    assert api.post(url=url, key="k").body == answer.body
    assert is_problem(api.post(url=url + "x", key="k"), 422)
    assert kept.private.read(url_key(job.id)) == url.encode()
    path = kept.private.local(url_key(job.id))
    assert path is not None
    assert path.stat().st_mode & 0o777 == 0o600
    for refused in (
        "http://127.0.0.1/",
        "http://2130706433:443/",
        "https://[::ffff:10.0.0.1]/",
        "https://169.254.169.254/latest",
        "https://user:s3cret@video.example/",
        "https://video.example:22/",
        "ftp://video.example/",
        "https://video.example\\@127.0.0.1/",
        "video.mp4",
    ):
        answer = api.post(url=refused)
        assert is_problem(answer, 422, "url")
        assert "s3cret" not in answer.body["detail"]
    assert len(jobs(settings)) == 1
    assert api.delete(job.id).status == 204
    assert kept.private.read(url_key(job.id)) is None
    # By default only https on its usual port.
    default = services.start("videos", make_settings(state=installation.state))
    for refused in ("http://video.example/", "https://video.example:8443/"):
        assert is_problem(Api(default.settings).post(url=refused), 422, "url")
    assert Api(default.settings).post(url="https://video.example/").status == 202
    for process in (service, default):
        assert process.stop() == 0
        assert "s3cret" not in process.log.read_text()
        assert "video.example" not in process.log.read_text()


def test_the_same_request_is_one_job(api: Api, service: Service, kept: Storage) -> None:
    first = api.post(path="a.mp4", key="k").body
    assert api.post(path="a.mp4", key="k").body == first
    assert api.post(path="a.mp4", key="k", site=1).body == first  # says the same
    assert is_problem(api.post(path="a.mp4", key="k", outputs=[{"kind": "poster"}]), 422)
    assert is_problem(api.upload(CLIP, key="k"), 422)
    uploaded = api.upload(CLIP, key="u").body
    assert api.upload(CLIP, key="u").body == uploaded
    assert is_problem(api.upload(CLIP + b"!", key="u"), 422)
    assert kept.private.read(upload_key(uploaded["id"])) == CLIP
    assert api.post(path="a.mp4").body["id"] != api.post(path="a.mp4").body["id"]
    # Nor is it a second one when the file is gone meanwhile; what was not taken may be mended.
    (api.settings.videos / "a.mp4").rename(api.settings.videos / "b.mp4")
    assert api.post(path="a.mp4", key="k").body == first
    assert is_problem(api.post(path="a.mp4", key="new"), 422, "path")
    assert api.post(path="b.mp4", key="new").status == 202
    (api.settings.videos / "b.mp4").rename(api.settings.videos / "a.mp4")
    # Nor is it a second one after a restart, or when many ask at once.
    service.kill()
    service.start()
    assert api.post(path="a.mp4", key="k").body == first
    answers: list[Answer] = []
    asking = [threading.Thread(target=lambda: answers.append(api.post(path="a.mp4", key="many"))) for _ in range(8)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    (many,) = {answer.body["id"] for answer in answers}
    assert {job.id for job in jobs(api.settings)} >= {first["id"], uploaded["id"], many}
    assert len({job.id for job in jobs(api.settings)}) == 6
    assert sorted(left(api.settings)) == [uploaded["id"]]
    # The key is another site's own.
    other = client(api.settings, 2, Role.WRITE)
    eventually(lambda: other.list().status == 200, "the token is in force")
    assert other.post(path="a.mp4", key="k").body["id"] != first["id"]


@pytest.mark.long
def test_a_request_that_was_not_taken_may_be_sent_again(api: Api, stack: Stack, kept: Storage) -> None:
    assert api.post(path="a.mp4").status == 202
    stack.stop_part("kafka")
    assert is_problem(api.upload(CLIP, key="k"), 503)
    eventually(lambda: api.ask("GET", "/readyz").status == 503, "it is not ready")
    assert is_problem(api.upload(CLIP), 503)
    stack.start_part("kafka")
    eventually(lambda: api.ask("GET", "/readyz").status == 200, "it is ready again")
    again = api.upload(CLIP, key="k")
    assert again.status == 202
    assert left(api.settings) == [again.body["id"]]
    assert [job.id for job in jobs(api.settings) if job.origin == Uploaded()] == [again.body["id"]]


def test_pages(api: Api, start_worker: Starter) -> None:
    """While the table knows none of them, in the middle, and once it knows all."""
    ids = [api.post(path="a.mp4").body["id"] for _ in range(7)]
    ids.reverse()

    def all_pages(query: str = "") -> list[str]:
        found, page = [], api.list(f"?limit=3{query}").body
        while True:
            assert len(page["videos"]) <= 3
            found += [video["id"] for video in page["videos"]]
            if page["next"] is None:
                return found
            page = api.list(f"?limit=3{query}&cursor={page['next']}").body

    assert all_pages() == ids
    worker = start_worker(api.settings)
    eventually(lambda: all_pages() == ids and service_knows(api, ids), "the table has them")
    assert all_pages("&state=queued") == ids
    assert all_pages("&state=done") == []
    assert api.delete(ids[3]).status == 204
    rest = [job for job in ids if job != ids[3]]
    assert all_pages() == rest
    more = api.post(path="a.mp4").body["id"]
    assert all_pages() == [more, *rest]
    assert worker.stop() == 0


def service_knows(api: Api, ids: list[str]) -> bool:
    """Whether the table, and not only the process's memory, has these jobs: another process tells them."""
    from ingest.videos.states import States

    states = States(api.settings)
    try:
        return all(states.known(job) for job in ids)
    finally:
        states.close()


def test_a_deleted_job_is_gone(api: Api, kept: Storage, start_worker: Starter, service: Service) -> None:
    job = api.upload(CLIP).body["id"]
    done(kept, job, 1, poster_jpg=b"x")
    assert api.ask("GET", f"/v1/videos/{job}/poster.jpg").status == 200
    assert api.delete(job).status == 204
    for answer in (api.get(job), api.ask("GET", f"/v1/videos/{job}/poster.jpg")):
        assert is_problem(answer, 404)
    assert api.delete(job).status == 204
    assert api.list().body["videos"] == []
    assert kept.private.stat(deleted_key(job)) is not None
    assert left(api.settings) == []
    assert list(api.settings.thumbnails.iterdir()) == []
    with told(api.settings) as results:
        results.wait(lambda told: "deleted 0" in told.of(job))
    # Its rows say so too, and another process.
    start_worker(api.settings)
    eventually(lambda: service_knows(api, [job]), "the table has it")
    service.stop()
    service.start()
    eventually(lambda: api.list().body["videos"] == [], "the list is without it")
    assert is_problem(api.get(job), 404)
    assert (api.settings.videos / "a.mp4").exists()


def test_files(api: Api, kept: Storage) -> None:
    job, picture = new_id(1), bytes(range(256)) * 20
    done(kept, job, 1, poster_jpg=picture, board_vtt=b"WEBVTT\n", page_html=b"<script>")
    kept.outputs.put(output_key(job, "other.jpg"), b"nobody was told of it")
    place = f"/v1/videos/{job}/poster.jpg"

    whole = api.ask("GET", place)
    assert (whole.status, whole.body) == (200, picture)
    assert whole.headers["content-type"] == "image/jpeg"
    assert whole.headers["content-length"] == str(len(picture))
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in whole.headers["content-security-policy"]
    assert "private" in whole.headers["cache-control"]
    assert api.ask("GET", f"/v1/videos/{job}/board.vtt").headers["content-type"] == "text/vtt; charset=utf-8"
    head = api.ask("HEAD", place)
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(picture)))

    for wanted, first, last in (
        ("bytes=0-0", 0, 0),
        ("bytes=100-199", 100, 199),
        ("bytes=5000-", 5000, 5119),
        ("bytes=-20", 5100, 5119),
        ("bytes=-9999", 0, 5119),
        ("bytes=5119-9999", 5119, 5119),
        ("Bytes = 7-8", 7, 8),
    ):
        answer = api.ask("GET", place, Range=wanted)
        assert (answer.status, answer.body) == (206, picture[first : last + 1]), wanted
        assert answer.headers["content-range"] == f"bytes {first}-{last}/5120"
        assert answer.headers["content-length"] == str(last + 1 - first)
    for wanted in ("bytes=5120-", "bytes=9999-99999", "bytes=-0"):
        answer = api.ask("GET", place, Range=wanted)
        assert is_problem(answer, 416)
        assert answer.headers["content-range"] == "bytes */5120"
    for wanted in ("bytes=1-0", "bytes=0-1,3-4", "lines=1-2", "bytes=x-", "bytes=-", ""):
        assert api.ask("GET", place, Range=wanted).status == 200, wanted

    tag, modified = whole.headers["etag"], whole.headers["last-modified"]
    for header in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        answer = api.ask("GET", place, If_None_Match=header)
        assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", tag)
    assert api.ask("GET", place, If_None_Match='"x"').status == 200
    for header, status in ((tag, 206), (modified, 206), ('"x"', 200), (f"W/{tag}", 200)):
        assert api.ask("GET", place, Range="bytes=0-0", If_Range=header).status == status
    kept.outputs.put(output_key(job, "poster.jpg"), picture + b"!")
    assert api.ask("GET", place, If_None_Match=tag).headers["etag"] != tag

    # Only what the result lists, and of that only kinds that are known.
    for name in (RECORD, "other.jpg", "page.html", "..%2Fposter.jpg", "%2e%2e", ".", "poster.jpg%00", "POSTER.jpg"):
        assert is_problem(api.ask("GET", f"/v1/videos/{job}/{name}"), 404)
    assert is_problem(api.ask("GET", f"/v1/videos/{new_id(1)}/poster.jpg"), 404)
    assert is_problem(api.ask("DELETE", place), 405)


def test_the_description_is_right_and_whole(api: Api) -> None:
    """It is OpenAPI 3.1, it names the routes that there are; that answers are as it says is seen in all tests."""
    document = api.ask("GET", "/openapi.json").body
    validate(document)
    assert document == video_contract.document()
    for route, operations in document["paths"].items():
        path = route.replace("{id}", new_id(1)).replace("{file}", "poster.jpg")
        for method in ("GET", "POST", "DELETE", "PUT", "PATCH"):
            answer = api.ask(method, path)  # of a described operation the answer is held against it
            assert (answer.status == 405) == (method.lower() not in operations), (method, route, answer.status)
    for schema in ("VideoRequest", "UploadRequest"):
        example = document["components"]["schemas"][schema]
        assert example["additionalProperties"] is False


def test_the_answer_waits_for_the_broker(api: Api, stack: Stack) -> None:
    assert api.post(path="a.mp4").status == 202  # so that the producer has no other reason to wait
    answers: list[Answer] = []
    sender = threading.Thread(target=lambda: answers.append(api.post(path="a.mp4")))
    stack.kill("kafka", signal.SIGSTOP)
    try:
        sender.start()
        sender.join(2.0)
        assert answers == []
    finally:
        stack.kill("kafka", signal.SIGCONT)
    sender.join()
    assert [answer.status for answer in answers] == [202]
    assert answers[0].body["id"] in {job.id for job in jobs(api.settings)}


@pytest.mark.long
def test_what_is_away_is_said(api: Api, stack: Stack, kept: Storage) -> None:
    """Broker and engine away in turn: 503 and when to come again, for that alone which needs it."""
    stack.stop_part("front")
    answer = api.post(path="a.mp4")
    assert answer.status == 202
    job = answer.body["id"]
    done(kept, job, 1, poster_jpg=b"x")
    for away in (api.get(job), api.list(), api.delete(job)):
        assert is_problem(away, 503)
        assert int(away.headers["retry-after"]) > 0
    assert api.ask("GET", f"/v1/videos/{job}/poster.jpg").status == 200
    stack.start_part("front")
    eventually(lambda: api.get(job).status == 200, "the states can be read again")

    stack.stop_part("kafka")
    refused = api.post(path="a.mp4")
    assert is_problem(refused, 503)
    assert int(refused.headers["retry-after"]) > 0
    eventually(lambda: api.ask("GET", "/readyz").status == 503, "it is not ready")
    assert api.ask("GET", "/livez").status == 200
    assert api.get(job).status == 200
    assert is_problem(api.delete(job), 503)
    assert is_problem(api.get(job), 404)  # nothing of it is left, though nobody was told yet
    stack.start_part("kafka")
    eventually(lambda: api.ask("GET", "/readyz").status == 200, "it is ready again")
    assert api.delete(job).status == 204
    assert api.post(path="a.mp4").status == 202


@pytest.mark.long
def test_a_start_without_a_broker(installation: Settings, stack: Stack, tmp_path: Path) -> None:
    stack.stop_part("kafka")
    service = video_api(installation, tmp_path)
    api = Api(installation)
    try:
        service.start(wait=False)

        def refused() -> bool:
            try:
                return is_problem(api.post(path="a.mp4"), 503)
            except OSError:  # the process has just begun
                return False

        eventually(refused, "it answers")
        stack.start_part("kafka")
        service.wait_ready()
        assert api.post(path="a.mp4").status == 202
        assert service.stop() == 0
    finally:
        service.kill()


def test_a_start_with_a_wrong_site_is_refused(installation: Settings, tmp_path: Path) -> None:
    (installation.sites / "2.toml").write_text("timezone = 1\n")
    service = video_api(installation, tmp_path)
    with pytest.raises(AssertionError, match="status 2"):
        service.start()
    assert "2.toml" in service.log.read_text()
    assert json.dumps(installation.api_token.read_text().strip()) not in service.log.read_text()
