"""Repeats from the request to the row: what the collector makes of it, as the worker judges it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest import bulk
from ingest.directory import Directory
from ingest.permissions import Refused
from ingest.requests import single
from schemas.packets import MAPPED_IPV4, Event, encode
from schemas.sites import load_sites
from schemas.tokens import token_hash
from streams import batch
from streams.batch import PartitionState, Record
from tests.streams.core.traffic import START_MS, world

ADDRESS = MAPPED_IPV4 + bytes([198, 51, 100, 7])
AGENT = {"user-agent": b"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"}
SCRIPT = (
    b"action_name=it's&idsite=1&rec=1&r=271828&h=8&m=26&s=40&url=https%3A%2F%2Fa.example%2F&_id=76d1f50cbfda087a"
    b"&_idn=0&send_image=0&_refts=0&pv_id=Tr5kBa&res=1920x1080"
)
CALL = b"idsite=1&rec=1&url=https%3A%2F%2Fa.example%2F&action_name=x"
LINE = '{"idsite":"1","rec":"1","url":"https://a.example/","cdt":"2026-11-18 08:00:00","cip":"192.0.2.1"}'


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    (tmp_path / "1.toml").write_text(f'[tokens]\n"{token_hash("secret")}" = "write"')
    (tmp_path / "2.toml").write_text("")
    return Directory(load_sites(tmp_path), 1)


class Log:
    """Requests of one moment after the other; `kept` says of each how many rows it has."""

    def __init__(self, directory: Directory) -> None:
        self.directory = directory
        self.requests: list[list[Event]] = []

    def call(self, query: bytes, seconds: float = 1, **more: bytes) -> None:
        fields = AGENT | {name.replace("_", "-"): value for name, value in more.items()}
        found = single(query, fields, ADDRESS, self._now(seconds), self.directory)
        assert not isinstance(found, Refused)
        self.requests.append([Event(*found[1])])

    def bulk(self, body: str, seconds: float = 1, **more: bytes) -> None:
        fields = AGENT | {name.replace("_", "-"): value for name, value in more.items()}
        now, token = self._now(seconds), b"token_auth=secret"
        found = bulk.read(body.encode(), fields, ADDRESS, now, self.directory, token)
        assert not found.invalid
        self.requests.append([Event(*row) for _, row in found.events])

    def _now(self, seconds: float) -> int:
        before = self.requests[-1][0].received_ms if self.requests else START_MS
        return before + int(seconds * 1000)

    def kept(self) -> list[int]:
        policies = self.directory.policies
        records = [
            Record(0, n, 1, events[0].received_ms, encode(1, n, 1, policies.version, events))
            for n, events in enumerate(self.requests)
        ]
        stored = batch.process(records, {0: PartitionState()}, world(policies)).packets["stored"]
        return [int(count) for count in stored.to_pylist()]


@pytest.fixture
def log(directory: Directory) -> Log:
    return Log(directory)


def test_a_failed_post_of_the_script_that_comes_again_as_an_image(log: Log) -> None:
    log.call(SCRIPT, origin=b"https://a.example", referer=b"https://a.example/")
    log.call(SCRIPT.replace(b"send_image=0", b"send_image=1").replace(b"'", b"%27"), 0.2, referer=b"https://a.example/")
    log.call(SCRIPT.replace(b"r=271828", b"r=271829").replace(b"s=40", b"s=41"))
    assert log.kept() == [1, 0, 1]


def test_an_importer_that_sends_the_same_bytes_again(log: Log) -> None:
    body = f'{{"requests":[{LINE},{LINE},{LINE}]}}'
    log.bulk(body)
    log.bulk(body, 10)
    log.bulk(body, 10)
    log.bulk(body.replace("08:00", "08:01"), 1)
    assert log.kept() == [3, 0, 0, 3]


def test_bulks_of_one_are_hits_of_their_own(log: Log) -> None:
    for _ in range(3):
        log.bulk(f'{{"requests":[{LINE}]}}')
    assert log.kept() == [1, 1, 1]


def test_equal_calls_of_an_sdk_are_events_of_their_own(log: Log) -> None:
    for _ in range(3):
        log.call(CALL)
    log.call(CALL, idempotency_key=b"")
    assert log.kept() == [1, 1, 1, 1]


def test_a_key_holds_for_a_site_and_a_token(log: Log) -> None:
    log.call(CALL, idempotency_key=b"k1")
    log.call(CALL + b"&e_c=a", idempotency_key=b"k1")
    log.call(CALL, idempotency_key=b"k2")
    log.call(CALL.replace(b"idsite=1", b"idsite=2"), idempotency_key=b"k1")
    log.call(CALL + b"&token_auth=x", idempotency_key=b"k1")
    log.call(CALL + b"&token_auth=x", idempotency_key=b"k1")
    log.bulk(f'{{"requests":[{LINE},{LINE}]}}', idempotency_key=b"k3")
    log.bulk(f'{{"requests":[{LINE},{LINE},{LINE}]}}', idempotency_key=b"k3")
    assert log.kept() == [1, 0, 1, 1, 1, 0, 2, 1]
