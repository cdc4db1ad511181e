"""The storage: objects appear whole, last, and lead nowhere else; what processes leave half done is removed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from infra.local.kafka import TOP
from infra.local.stack import install
from infra.service.files import PIECE
from infra.service.s3 import Bucket
from infra.service.settings import Settings, SettingsError
from infra.service.storage import Folder, Store, scratch_file, sweep
from infra.sites import revoke_token
from schemas.packets import Role
from schemas.sites import load_sites
from schemas.tokens import token_hash
from tests.gateway import Gateway


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A part of the storage, of each kind."""
    if request.param == "folder":
        return Folder(tmp_path / "store", private=True)
    gateway: Gateway = request.getfixturevalue("gateway")
    return Bucket(Settings(state=tmp_path, **gateway.bucket()), "private")


def test_objects(store: Store, tmp_path: Path) -> None:
    assert store.read("a/b") is None
    assert store.stat("a/b") is None
    store.put("a/b", b"one")
    first = store.stat("a/b")
    store.put("a/b", b"two!")
    assert store.read("a/b") == b"two!"
    second = store.stat("a/b")
    assert first is not None
    assert second is not None
    assert (first.size, second.size) == (3, 4)
    assert first.tag != second.tag
    assert not store.create("a/b", b"three")
    assert store.create("a/c", b"three")
    content = os.urandom(2 * PIECE + 5)
    (tmp_path / "file").write_bytes(content)
    store.take("a/c", tmp_path / "file")
    assert b"".join(store.pieces("a/c", 0, len(content))) == content
    assert b"".join(store.pieces("a/c", PIECE - 1, 7)) == content[PIECE - 1 : PIECE + 6]
    assert b"".join(store.pieces("a/c", len(content) - 2, 2)) == content[-2:]
    with pytest.raises(FileNotFoundError):
        next(store.pieces("a/d", 0, 1))
    assert sorted(store.old("a/", second.modified + 1000)) == ["a/b", "a/c"]
    assert list(store.old("a/", second.modified - 1000)) == []
    assert list(store.old("none/", second.modified)) == []
    store.remove("a/b")
    store.remove("a/b")
    assert store.read("a/b") is None
    store.put("other/b", b"stays")
    store.remove("a/")
    store.remove("a/")
    assert store.read("a/c") is None
    assert store.read("other/b") == b"stays"


def test_of_many_at_once_one_makes_an_object(store: Store) -> None:
    made: list[bytes] = []
    start = threading.Barrier(16)

    def make(content: bytes) -> None:
        start.wait()
        if store.create("k", content):
            made.append(content)

    threads = [threading.Thread(target=make, args=(b"%d" % n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [store.read("k")] == made


def test_a_bucket_that_cannot_be_used(gateway: Gateway, tmp_path: Path) -> None:
    """What can never be is refused at the start; what is away may come."""
    right = gateway.bucket()
    for wrong in (
        {**right, "video_storage": "s3://no-such-bucket"},
        {**right, "s3_secret_access_key": "wrong"},
        {**right, "s3_access_key_id": "nobody"},
    ):
        with pytest.raises(SettingsError, match="VIDEO_STORAGE"):
            Bucket(Settings(state=tmp_path, **wrong), "private").check()
    Bucket(Settings(state=tmp_path, **right), "private").check()
    away = Bucket(Settings(state=tmp_path, **{**right, "s3_endpoint": "http://127.0.0.1:1"}), "private")
    away.check()
    for use in (away.read, away.stat, away.remove, lambda key: away.put(key, b"x"), lambda key: away.create(key, b"x")):
        with pytest.raises(OSError, match="object storage") as caught:
            use("a/b")
        assert "127.0.0.1" not in str(caught.value)


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a/\0", "a/."])
def test_a_key_leads_nowhere_else(store: Store, key: str) -> None:
    for use in (store.read, store.stat, store.remove, store.local, lambda key: store.put(key, b"x")):
        with pytest.raises(ValueError, match="key"):
            use(key)


def test_modes(tmp_path: Path) -> None:
    for private, modes in ((True, (0o700, 0o600)), (False, (0o755, 0o644))):
        folder = tmp_path / str(private)
        store = Folder(folder, private=private)
        store.put("a/b", b"x")
        (tmp_path / "file").write_bytes(b"x")
        store.take("a/c", tmp_path / "file")
        umask = os.umask(0)
        os.umask(umask)
        for path, mode in ((".", modes[0]), ("a", modes[0]), ("a/b", modes[1]), ("a/c", modes[1])):
            assert (folder / path).stat().st_mode & 0o777 & ~umask == mode & ~umask


def test_a_file_under_way_ends_with_its_process(tmp_path: Path) -> None:
    with scratch_file(tmp_path) as (file, path):
        file.write(b"x")
        assert sweep(tmp_path) == 0
        assert path.exists()
    assert not path.exists()
    code = (
        "import sys, time, pathlib; from infra.service.storage import scratch_file\n"
        "with scratch_file(pathlib.Path(sys.argv[1])) as (_, path): print(path, flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=TOP, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    left = Path(process.stdout.readline().strip())
    assert sweep(tmp_path) == 0
    assert left.exists()
    process.kill()
    process.wait()
    assert sweep(tmp_path) == 1
    assert not left.exists()


def test_the_local_stack_makes_one_token_and_keeps_it(installation: Settings) -> None:
    token = installation.api_token.read_text().strip()
    assert installation.api_token.stat().st_mode & 0o777 == 0o600
    site = load_sites(installation.sites).of(1)
    assert site is not None
    assert site.role(token) is Role.WRITE
    revoke_token(installation.sites, 1, token_hash(token))
    install(installation)  # a token that was taken out is not made again
    assert installation.api_token.read_text().strip() == token
    site = load_sites(installation.sites).of(1)
    assert site is not None
    assert site.tokens == {}
