"""The tracker's script."""

from __future__ import annotations

from pathlib import Path

import uvloop

from tests.ingest.memory import Running, running, until

GET = b"GET /matomo.js HTTP/1.1\r\n\r\n"


def test_without_a_file_the_answer_says_how(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path) as collector:
            answer = await collector.ask(GET)
            assert answer.status == 404
            assert b"VEILSTREAM_COLLECTOR_MATOMO_JS" in answer.body
        async with running(tmp_path, collector_matomo_js=tmp_path / "none.js") as collector:
            answer = await collector.ask(GET)
            assert answer.status == 404
            assert b"cannot be read" in answer.body

    uvloop.run(test())


def test_the_file_is_served_and_revalidated(tmp_path: Path) -> None:
    script = tmp_path / "matomo.js"
    script.write_text("var x;")

    async def test() -> None:
        async with running(tmp_path, collector_matomo_js=script) as collector:
            first, second = await collector.ask(GET), await collector.ask(b"GET /piwik.js?v=1 HTTP/1.1\r\n\r\n")
            assert (first.status, first.body, second.body) == (200, b"var x;", b"var x;")
            assert first.headers["content-type"] == "text/javascript; charset=utf-8"
            assert first.headers["cache-control"] == "public, max-age=3600"
            tag = first.headers["etag"].encode()
            for known in (tag, b'"x", W/' + tag, b"*"):
                client = await collector.connect()
                client.send(b"GET /matomo.js HTTP/1.1\r\nIf-None-Match: %s\r\n\r\n" % known)
                answer = await client.answer(head=True)
                assert (answer.status, answer.headers["etag"]) == (304, tag.decode())
                client.close()
                assert await client.closed() == b""
            assert (await collector.ask(b'GET /matomo.js HTTP/1.1\r\nIf-None-Match: "x"\r\n\r\n')).status == 200
            client = await collector.connect()
            client.send(b"HEAD /matomo.js HTTP/1.1\r\n\r\n")
            assert (await client.answer(head=True)).headers["content-length"] == "6"
            script.write_text("var yy;")
            await changed(collector)

    uvloop.run(test())


async def changed(collector: Running) -> None:
    """A new file is served without a restart."""
    bodies: list[bytes] = []
    while b"var yy;" not in bodies:
        bodies.append((await collector.ask(GET)).body)
        await until(lambda: bodies[-1] in (b"var x;", b"var yy;"))
