"""An import goes on where it was, whatever stopped it, and sends every line once."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from infra.imports import run as module
from infra.imports.checkpoint import CheckpointError, Pending
from infra.imports.formats import parser
from infra.imports.requests import Chosen
from infra.imports.run import Import, ImportFailed
from tests.infra.imports.lines import combined

CHOSEN = Chosen(1, "https://shop.example")


class Server:
    """Stands where the collector is: takes a bulk once per key, and may fail before or after it took one."""

    def __init__(self) -> None:
        self.taken: dict[str, list[str]] = {}
        self.posts = 0
        self.fail: dict[int, str] = {}  # by number of the post: before, after

    def __call__(self, body: bytes, key: str) -> tuple[int, int]:
        self.posts += 1
        how = self.fail.get(self.posts, "")
        items = json.loads(body)["requests"]
        if how != "before":
            assert self.taken.setdefault(key, items) == items
        if how:
            raise ImportFailed(f"failed {how} it was taken")
        return len(items), 0

    @property
    def items(self) -> list[str]:
        return [item for items in self.taken.values() for item in items]


@pytest.fixture(autouse=True)
def small_bulks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINES", 10)


def importing(path: Path, server: Server, stored: bool = False) -> Import:
    return Import(path, parser("combined"), CHOSEN, path.parent / "imports", server, lambda _: stored, 900)


def expected(lines: list[str]) -> list[str]:
    found = (parser("combined")(line) for line in lines)
    return [request for hit in found if hit is not None and (request := CHOSEN.request(hit)) is not None]


@pytest.mark.parametrize("packed", [False, True])
def test_every_line_is_sent_once_and_in_order(tmp_path: Path, packed: bool) -> None:
    lines = [*combined(95), "broken", "# a comment"]
    path = tmp_path / "access.log"
    data = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(data) if packed else data)
    server = Server()
    counts = importing(path, server).run()
    assert server.items == expected(lines)
    assert (counts.lines, counts.sent, counts.unreadable) == (97, len(server.items), 1)
    assert counts.hits + counts.left_out + counts.unreadable == counts.lines
    again = Server()
    assert importing(path, again).run() == counts
    assert again.posts == 0


@pytest.mark.parametrize("post", range(1, 10))
@pytest.mark.parametrize("how", ["before", "after"])
def test_a_stop_anywhere(tmp_path: Path, post: int, how: str) -> None:
    path = tmp_path / "access.log"
    path.write_text("".join(f"{line}\n" for line in combined(95)))
    server = Server()
    server.fail = {post: how}
    with pytest.raises(ImportFailed):
        importing(path, server).run()
    counts = importing(path, server).run()
    assert server.items == expected(combined(95))
    assert counts.sent == len(server.items)
    assert counts.lines == 95


def test_a_bulk_whose_key_is_forgotten_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "access.log"
    path.write_text("".join(f"{line}\n" for line in combined(30)))
    server = Server()
    server.fail = {2: "after"}
    with pytest.raises(ImportFailed):
        importing(path, server).run()
    (checkpoint,) = (tmp_path / "imports").glob("1-*.json")
    data = json.loads(checkpoint.read_text())
    data["pending"]["sent_ms"] -= 901_000
    checkpoint.write_text(json.dumps(data))
    asked: list[Pending] = []

    def found(one: Pending) -> bool:
        asked.append(one)
        return True

    later = Import(path, parser("combined"), CHOSEN, tmp_path / "imports", server, found, 900)
    counts = later.run()
    assert [one.sent_ms for one in asked] == [data["pending"]["sent_ms"]]
    assert server.items == expected(combined(30))
    assert counts.sent == len(server.items)
    assert server.posts == 3  # the second was not sent again


def test_a_log_that_grows_and_is_renamed(tmp_path: Path) -> None:
    path, lines = tmp_path / "access.log", combined(50)
    path.write_text("".join(f"{line}\n" for line in lines[:23]))
    server = Server()
    importing(path, server).run()
    path.write_text("".join(f"{line}\n" for line in lines))
    renamed = path.rename(tmp_path / "access.log.1")
    assert importing(renamed, server).run().lines == 50
    assert server.items == expected(lines)


def test_a_checkpoint_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_text("x\n")
    (tmp_path / "imports").mkdir()
    (tmp_path / "imports" / "1-x.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"1-x\.json"):
        importing(path, Server()).run()
