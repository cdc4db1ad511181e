"""Requests in the shape of each server-side client: answered as it needs, and stored as it means.

The collector is real and asked over HTTP, Kafka is played by memory; the rows are those that the worker's stages make
of its packets.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from ingest.answers import GIF
from schemas.addresses import pack
from schemas.sites import load_sites
from schemas.tables import ActionType
from streams import batch
from streams.batch import PartitionState, Record
from tests.ingest.memory import SUPERUSER, WRITER, Running
from tests.ingest.test_http import get, post, served
from tests.streams.core.traffic import world

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:99.0) Gecko/20100101 Firefox/99.0"
JSON = "Content-type: application/json"
LOG_IMPORT = ("User-Agent: Matomo/LogImport", JSON, "Connection: close")


def stored(collector: Running) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of events and of the ledger that a worker makes of all packets so far."""
    folder = collector.collector.settings.sites_dir
    assert folder is not None
    looked_up = world(load_sites(folder).policies)
    records: list[Record] = []
    for offset, packet in enumerate(collector.delivery.packets()):
        assert packet.partition is not None
        records.append(Record(packet.partition, offset, 1, 2**42, packet.value))
    states = {record.partition: PartitionState() for record in records}
    outcome = batch.process(records, states, looked_up)
    events = sorted(outcome.events.to_pylist(), key=lambda row: (row["offset"], row["index"]))
    return events, outcome.packets.to_pylist()


def ago(**more: float) -> datetime:
    return datetime.now(UTC) - timedelta(**more)


def line(number: int = 0, **more: Any) -> dict[str, Any]:
    """An item as the log importer makes it."""
    url = f"http://www.site.example/page{number}"
    item: dict[str, Any] = {"rec": "1", "apiv": "1", "url": url, "urlref": "", "cip": "81.2.69.160", "idsite": "1"}
    item |= {"cdt": f"{ago(days=40):%Y-%m-%d} 10:00:0{number % 10}", "ua": FIREFOX, "dp": "0", "bw_bytes": 1234}
    return item | more


@served()
async def test_the_log_importer(collector: Running) -> None:
    items = [
        line(1),
        line(1),  # the same again is another hit
        None,
        line(2, cip="-", cdt="2023-12-23 23:17:54.815561", pf_srv=17, uid=""),
        line(3, url="http://www.site.example/\udce9t\u00e9 \u200bx", ua=""),
        line(4, download="http://www.site.example/a.pdf", url="http://www.site.example/a.pdf"),
        line(5, idsite="9"),
        line(6, bots="1", ua="Googlebot/2.1", _cvar=json.dumps({"1": ["Bot", "Googlebot"]})),
        line(7, ua="Googlebot/2.1"),
        line(8, **{"a": {"b": ["x", 1]}, "rec": "0"}),
        line(9, action_name="404/URL = %2Fa%3Fsid%3D7/From = http%3A%2F%2Fx.example"),
    ]
    body = json.dumps({"token_auth": SUPERUSER, "requests": items}).encode()
    assert b"\\udce9" in body
    answer = await collector.ask(post(body, *LOG_IMPORT, query="queuedtracking=0", path="/piwik.php"))
    assert answer.status == 200
    assert json.loads(answer.body) == {"status": "success", "tracked": 9, "invalid": 1, "invalid_indices": [6]}
    events, ledger = stored(collector)
    assert [sum(row[name] for row in ledger) for name in ("received", "stored", "excluded", "rejected")] == [9, 7, 2, 0]
    first, second, third, fourth, fifth, bot, missing = events
    assert first["url"] == second["url"] == "http://www.site.example/page1"
    assert first["time"].strftime("%H:%M:%S") == "10:00:01"
    assert (first["address"], third["address"]) == ("81.2.0.0", "0.0.0.0")
    assert third["time"].isoformat() == "2023-12-23T23:17:54.815000+00:00"
    assert fourth["url"].startswith("http://www.site.example/")
    assert "t\u00e9" in fourth["url"]
    assert (fifth["action_type"], fifth["link_url"]) == (ActionType.DOWNLOAD, "http://www.site.example/a.pdf")
    assert bot["bot"]
    assert "sid" not in missing["title"]


@served()
async def test_an_import_without_a_token_stores_nothing_of_others(collector: Running) -> None:
    item = "?cip=1.2.3.4&idsite=1&rec=1"
    for items in ([line(1), line(2)], [item, item]):
        answer = await collector.ask(post(json.dumps({"requests": items}).encode(), *LOG_IMPORT))
        assert (answer.status, json.loads(answer.body)["tracked"], json.loads(answer.body)["invalid"]) == (200, 0, 2)
    assert not collector.delivery.packets()
    query = f"token_auth={WRITER}"
    answer = await collector.ask(post(json.dumps({"requests": [item]}).encode(), *LOG_IMPORT, query=query))
    assert json.loads(answer.body)["tracked"] == 1
    (event,) = collector.delivery.events()
    assert event.address == pack("1.2.3.4")


@served()
async def test_npm_keeps_the_connection_and_reads_nothing(collector: Running) -> None:
    query = f"url={quote('http://site.example/npm', safe='')}&action_name=npm%20test&idsite=1&rec=1"
    client = await collector.connect()
    client.send(get(query, "Connection: keep-alive") * 2)
    answers = [await client.answer() for _ in range(2)]
    assert [(answer.status, answer.body) for answer in answers] == [(200, GIF)] * 2
    events, _ = stored(collector)
    assert [event["title"] for event in events] == ["npm test", "npm test"]
    client.close()


@served()
async def test_php_sends_the_token_in_the_body_and_all_else_in_the_query(collector: Running) -> None:
    items = quote(json.dumps([["SKU", "Thing", "", "10", "2"]]), safe="")
    time = quote(f"{ago(days=3):%Y-%m-%d %H:%M:%S}")
    query = (
        f"idsite=1&rec=1&apiv=1&r=123456&cip=81.2.69.160&_idts=1700000000&cdt={time}"
        f"&_id=76d1f50cbfda087a&url=http%3A%2F%2Fsite.example%2Fa+b&urlref=&idgoal=0&ec_id=1&ec_items={items}&revenue=20"
    )
    form = "Content-Type: application/x-www-form-urlencoded"
    for request in (
        post(f"token_auth={WRITER}".encode(), form, query=query),
        get(f"{query}&token_auth={WRITER}"),
        post(f"{query}&token_auth={WRITER}".encode(), form),
    ):
        assert (await collector.ask(request)).status == 200
    assert (await collector.ask(get(query))).status == 400
    events, _ = stored(collector)
    assert [(event["address"], event["action_type"]) for event in events] == [("81.2.0.0", ActionType.ECOMMERCE)] * 3
    assert events[0]["item_price"] == [10.0]
    assert events[0]["item_quantity"] == [2]
    assert all(timedelta(days=2.9) < datetime.now(UTC) - event["time"] < timedelta(days=3.1) for event in events)


@served()
async def test_php_sends_a_bulk_of_absolute_urls(collector: Running) -> None:
    url = "http:\\/\\/collector\\/matomo.php?idsite=1&rec=1&url=http%3A%2F%2Fsite.example%2F{}&ua=Mozilla&lang=de"
    items = ",".join(f'"{url.format(number)}"' for number in range(2))
    body = f'{{"requests":[{items}],"token_auth":"{WRITER}"}}'.encode()
    answer = await collector.ask(post(body, "Accept-Language:"))
    assert json.loads(answer.body) == {"status": "success", "tracked": 2, "invalid": 0}
    events, _ = stored(collector)
    assert [(event["url"], event["language"]) for event in events] == [
        ("http://site.example/0", "de"),
        ("http://site.example/1", "de"),
    ]


@served()
async def test_java_doubles_the_token_and_offers_h2c(collector: Running) -> None:
    seconds = int(ago(days=2).timestamp())
    query = (
        f"rec=1&idsite=1&url=http%3A%2F%2Fsite.example%2Fjava&apiv=1&rand=abc&cdt={seconds}&send_image=0"
        f"&token_auth={WRITER}&token_auth={WRITER}&cip=81.2.69.160"
    )
    offer = (
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAEAAEAAAAIAAAAA",
        "Content-Length: 0",
    )
    client = await collector.connect()
    client.send(get(query, *offer))
    assert (await client.answer()).status == 204
    body = json.dumps({"requests": ["?" + query], "token_auth": WRITER}).encode()
    client.send(post(body, *offer[:3], JSON))
    answer = await client.answer()
    assert (answer.status, json.loads(answer.body)["tracked"]) == (200, 1)
    events, _ = stored(collector)
    assert [int(event["time"].timestamp()) for event in events] == [seconds, seconds]
    assert WRITER not in "".join(event.query for event in collector.delivery.events())
    client.close()


@served()
async def test_python_sends_its_bulk_as_a_form(collector: Running) -> None:
    uadata = quote(json.dumps({"brands": [], "model": ""}), safe="")
    flat = quote(json.dumps(["SKU", "n", "c", 1, 2]), safe="")
    items = [
        f"?idsite=1&rec=1&_idts=1700000000.5&uadata={uadata}&url=http%3A%2F%2Fsite.example%2Fp",
        f"?idsite=1&rec=1&idgoal=0&ec_id=7&revenue=3&ec_items={flat}",
    ]
    form = "&".join(f"requests={quote(item, safe='')}" for item in items) + f"&token_auth={WRITER}"
    answer = await collector.ask(post(form.encode(), "Content-Type: application/x-www-form-urlencoded"))
    assert (answer.status, json.loads(answer.body)) == (200, {"status": "success", "tracked": 2, "invalid": 0})
    page, order = stored(collector)[0]
    assert page["url"] == "http://site.example/p"
    assert (order["action_type"], order["item_sku"], order["revenue"]) == (ActionType.ECOMMERCE, [], 3.0)
