"""The scan itself, on small things; and, long, on the real stack."""

from __future__ import annotations

import base64
import secrets
from pathlib import Path
from urllib.parse import quote

import lz4.block
import pytest
import zstandard

from tests.canary import laboratory
from tests.canary.marks import Maker, Mark
from tests.canary.requests import requests
from tests.canary.search import Searcher, search_folder, search_inside

TEXT = "Qzvkxwpj0017 é/ü&"


def found(data: bytes, text: str = TEXT) -> bool:
    searcher = Searcher([Mark("a", "uid", text, True)])
    searcher.look("here", data)
    search_inside(searcher, "here", data)
    return searcher.found == {0: {"here"}} or searcher.found == {0: {"here, a frame in it"}} or bool(searcher.found)


@pytest.mark.parametrize(
    "written",
    [
        TEXT,
        TEXT.upper(),
        TEXT.lower(),
        quote(TEXT, safe=""),
        quote(quote(TEXT, safe=""), safe=""),
        base64.b64encode(TEXT.encode()).decode(),
        base64.b64encode(b"x" + TEXT.encode() + b"yz").decode(),
        base64.urlsafe_b64encode(b"xy" + TEXT.encode() + b"y").decode(),
    ],
)
def test_a_mark_is_found_in_every_form_wherever_it_begins(written: str) -> None:
    for before in range(9):
        assert found(b"." * before + written.encode() + b"...")
    assert not found(b"." * 40 + (written[:10] + written[11:]).encode())


def test_an_id_is_found_as_a_number() -> None:
    number = 0x0123456789ABCDEF
    for written in (str(number).encode(), number.to_bytes(8, "little"), number.to_bytes(8, "big")):
        assert found(b"..." + written + b"...", f"{number:016x}")


def test_what_is_compressed_is_looked_into(tmp_path: Path) -> None:
    data = TEXT.encode() * 3
    packed = lz4.block.compress(data, store_size=False)
    sizes = (len(packed) + 9).to_bytes(4, "little") + len(data).to_bytes(4, "little")
    (tmp_path / "data.bin").write_bytes(bytes(16) + b"\x82" + sizes + packed)
    (tmp_path / "00.log").write_bytes(b"head" + zstandard.compress(b"x" + data) + b"tail")
    (tmp_path / quote(TEXT, safe="")).write_bytes(b"")
    searcher = Searcher([Mark("a", "uid", TEXT, True)])
    assert search_folder(searcher, tmp_path) == 3
    assert {place.partition(",")[0] for place in searcher.found[0]} == {"data.bin", "00.log", quote(TEXT, safe="")}


def test_an_address_is_found_as_bytes_and_marks_are_many_and_apart() -> None:
    assert found(bytes.fromhex("00" * 10 + "ffff" + "4d9bc8f1"), "77.155.200.241")
    maker = Maker(5)
    sent = b"".join(requests(maker, laboratory.REQUESTS))
    assert len(maker.marks) >= 2000
    assert len({mark.text for mark in maker.marks}) == len(maker.marks)
    searcher = Searcher(maker.marks)
    searcher.look("sent", sent)
    unsent = [mark.field for number, mark in enumerate(maker.marks) if number not in searcher.found]
    assert unsent == []


@pytest.mark.long
def test_nothing_of_a_person_is_left_anywhere(tmp_path: Path) -> None:
    figures = laboratory.run(tmp_path, secrets.randbits(31), print)
    assert laboratory.right(figures), {key: value for key, value in figures.items() if key != "bytes"}
    assert figures["planted"] >= 2000
