"""Bad input to a running installation: a clear answer or a typed rejection each, and its neighbours are stored."""

from __future__ import annotations

import http.client
import json
import random
from pathlib import Path
from typing import Any

import pytest

from infra.service.clickhouse import connect
from infra.service.settings import Settings
from tests.conftest import SettingsMaker, Starter
from tests.databases import install
from tests.ingest.memory import SUPERUSER, write_sites
from tests.streams.shell.stream import eventually

SECONDS = 60.0  # longest wait for an answer
UNKNOWN = 99  # a site that does not exist
HUGE = "99999999999999999999"


@pytest.fixture
def settings(make_settings: SettingsMaker, tmp_path: Path) -> Settings:
    made = make_settings(sites_dir=write_sites(tmp_path / "sites", 1, 2))
    install(made)
    return made


class Client:
    """One connection, opened again when the collector has closed it."""

    def __init__(self, settings: Settings) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", settings.collector_port, timeout=SECONDS)

    def ask(self, method: str, target: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Status and body of the answer."""
        self._connection.request(method, target, body)
        answer = self._connection.getresponse()
        return answer.status, answer.read()


def good(name: str) -> str:
    return f"idsite=1&rec=1&send_image=0&url=https%3A%2F%2Fshop.example%2F{name}"


def bulk(*items: Any, **more: Any) -> bytes:
    return json.dumps({"requests": list(items), **more}).encode()


def test_bad_input_is_answered_and_hurts_no_neighbour(
    settings: Settings, start_collector: Starter, start_worker: Starter
) -> None:
    collector, worker = start_collector(settings), start_worker(settings)
    client = Client(settings)
    noise = random.Random(1).randbytes(10_000_000)
    # name, request, status, and words of the answer. After each a good event follows on the same connection.
    cases: list[tuple[str, tuple[str, str, bytes | None], int, bytes]] = [
        ("no-body", ("POST", "/matomo.php", b""), 400, b"idsite"),
        ("wrong-json", ("POST", "/matomo.php", b'{"requests": [oops}'), 400, b'"status":"error"'),
        ("json-of-another-kind", ("POST", "/matomo.php", b'["requests"]'), 400, b'"status":"error"'),
        ("noise", ("POST", "/matomo.php", noise), 413, b"longer than"),
        ("less-noise", ("POST", "/matomo.php", noise[:100_000]), 400, b"idsite"),
        ("unknown-site", ("GET", f"/matomo.php?idsite={UNKNOWN}&rec=1", None), 400, b"names no site"),
        ("not-utf-8", ("GET", f"/matomo.php?{good('latin')}&action_name=caf%E9+%FF", None), 204, b""),
        ("huge-number", ("GET", f"/matomo.php?{good('huge')}&pf_net={HUGE}&idgoal=-1&h={HUGE}", None), 204, b""),
        ("negative", ("GET", f"/matomo.php?{good('negative')}&pf_net=-{HUGE}", None), 400, b"pf_net"),
    ]
    expected = set()
    for name, request, status, words in cases:
        assert client.ask("GET", f"/matomo.php?{good(f'before-{name}')}") == (204, b""), name
        answered, text = client.ask(*request)
        assert (answered, words in text) == (status, True), (name, answered, text)
        assert client.ask("GET", f"/matomo.php?{good(f'after-{name}')}") == (204, b""), name
        expected |= {f"/before-{name}", f"/after-{name}"}

    # In one bulk, so in one packet and one batch of the worker.
    items = (
        "?" + good("first"),
        f"?idsite={UNKNOWN}&rec=1",
        "?" + good("broken") + "&action_name=\udcff%ZZ\x00",
        None,
        {"idsite": 1, "rec": 1, "url": "https://shop.example/object", "pf_srv": int(HUGE)},
        "?" + good("refused") + f"&pf_net=-{HUGE}",
        "?rec=1",
        "?" + good("last"),
    )
    answered, text = client.ask("POST", "/matomo.php", bulk(*items, token_auth=SUPERUSER))
    # `first`, `broken`, `object` and `last`; null is skipped without a count.
    assert answered == 200
    assert json.loads(text) == {"status": "success", "tracked": 4, "invalid": 3, "invalid_indices": [1, 5, 6]}
    expected |= {"/latin", "/huge", "/first", "/broken", "/object", "/last"}

    with connect(settings) as engine:

        def paths() -> list[str]:
            return [path for (path,) in engine.query("SELECT url_path FROM events").result_rows]

        found = eventually(paths, lambda rows: len(rows) >= len(expected))
        assert sorted(found) == sorted(expected)
        assert engine.query("SELECT reason, field FROM rejects").result_rows == []
        # What a column cannot hold is missing or saturated, never wrapped.
        timings = engine.query(
            "SELECT url_path, timing_network, timing_server FROM events WHERE url_path IN ('/huge', '/object')"
        ).result_rows
        assert all(value in (0, 16_777_215) for row in timings for value in row[1:]), timings
    assert collector.running()
    assert collector.stop() == 0
    assert worker.stop() == 0
