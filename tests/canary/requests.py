"""Requests with a mark in every field: in order, broken, and such as the rules leave out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

from tests.canary.marks import Maker

AGENT = "Mozilla/5.0 (X11; Linux x86_64; {}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
SITE = 1
HOST = "shop.example"
LEADING_AWAY = "the title of a page that is left"
RECORDED = "a recording's "  # what fields of recordings begin with


def requests(maker: Maker, amount: int) -> Iterator[bytes]:
    """About `amount` requests, each whole, on a connection of its own."""
    for number in range(amount):
        yield (_valid, _valid, _valid, _bulk, _valid, _post, _broken, _left_out)[number % 8](maker, number)
        if number % 8 == 4 and number >= amount // 2:  # not among the first, which come while Kafka is away
            yield _recording(maker, number)


def _head(
    maker: Maker, method: str, target: str, length: int | None = None, more: str = "", good: bool = True
) -> bytes:
    """`good`: the request is in order, so its agent, language and address leave the collector."""

    def mark(field: str, carried: bool = False) -> str:
        return maker.any(field, carried=carried, plain=True)

    lines = [
        f"{method} {target} HTTP/1.1",
        "Host: localhost",
        f"X-Forwarded-For: {maker.address() if good else '192.0.2.1'}",
        f"User-Agent: {AGENT.format(mark('User-Agent', good))}",
        f"Accept-Language: de-DE,de;q=0.9,{mark('Accept-Language', good)};q=0.1",
        f"Cookie: session={mark('a cookie')}; _pk_id.1={mark('a cookie')}",
        f"X-Customer: {mark('a header')}",
        f"Referer: https://{HOST}/?from={mark('Referer')}",
        "Connection: close",
    ]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return ("\r\n".join(lines) + "\r\n" + more + "\r\n").encode()


def _parameters(maker: Maker, number: int) -> dict[str, str]:
    """One event's parameters; which fields are used turns with `number`."""
    turn = number % 10
    path = f"{maker.word('a path')}/{quote(maker.person('a path'), safe='')}" if turn == 6 else maker.word("a path")
    url = (
        f"https://user:{maker.any('userinfo', plain=True)}@{HOST}/{path}"
        f"?sid={quote(maker.any('an unlisted URL parameter'))}&mtm_campaign={maker.word('a campaign')}"
        f"#{maker.any('a fragment', plain=True)}"
    )
    title = maker.person(LEADING_AWAY if turn == 4 else "a title")
    if turn != 4:  # what leads away from the site is stored without the page's title
        title = f"{maker.word('a title')} {title} {maker.word('a title')}"
    found = {
        "idsite": str(SITE),
        "rec": "1",
        "url": url,
        "action_name": title,
        "_id": maker.hexadecimal("_id", 16),
        "uid": maker.any("uid"),
        "dimension1": maker.any("dimension1"),
        "cvar": json.dumps({"1": ["plan", maker.any("cvar", plain=True)]}),
        "unknown": maker.any("an unknown parameter"),
        "urlref": f"https://other.example/?q={quote(maker.any('the referrer query'))}",
        "token_auth": maker.hexadecimal("token_auth", 32, carried=False),
    }
    if turn == 1:
        keyword = f"{maker.word('a keyword')} {maker.person('a keyword')}"
        found |= {"search": keyword, "search_cat": maker.person("search_cat")}
    elif turn == 2:
        found |= {"e_c": maker.person("e_c"), "e_a": maker.person("e_a"), "e_n": maker.person("e_n")}
    elif turn == 3:
        found |= {"c_n": maker.person("c_n"), "c_p": maker.person("c_p"), "c_t": f"https://{HOST}/{maker.word('c_t')}"}
    elif turn == 4:
        found |= {"link": f"https://out.example/{maker.word('a link')}?to={quote(maker.any('a link', plain=True))}"}
    elif turn == 5:
        items = [["SKU-1", maker.person("an item"), [], 1.5, 2]]
        found |= {"idgoal": "0", "ec_id": maker.any("ec_id"), "revenue": "9.5", "ec_items": json.dumps(items)}
    elif turn == 7:
        found |= {"_pks": maker.person("_pks"), "_pkn": maker.person("_pkn")}
        found |= {"_pkc": json.dumps([maker.word("_pkc"), maker.person("_pkc")])}
    elif turn == 8:
        found |= {"ca": "1", "ma_id": "a1", "ma_re": f"https://v.example/?u={quote(maker.any('ma_re'))}"}
        found |= {"ma_ti": f"{maker.word('ma_ti')} {maker.person('ma_ti')}", "ma_pn": maker.person("ma_pn")}
    elif turn == 9:
        frame = f"f https://{HOST}/{maker.word('cra_st')}.js?u={quote(maker.any('cra_st', plain=True))}:1:2"
        found |= {"ca": "1", "cra": f"{maker.word('cra')} {maker.person('cra')}", "cra_tp": maker.person("cra_tp")}
        found |= {"cra_ct": maker.person("cra_ct"), "cra_st": f"{frame}\n{maker.person('cra_st')}"}
        found |= {"cra_ru": f"https://{HOST}/{maker.word('cra_ru')}.js?u={quote(maker.any('cra_ru'))}"}
    return found


def _valid(maker: Maker, number: int) -> bytes:
    return _head(maker, "GET", "/matomo.php?" + urlencode(_parameters(maker, number), quote_via=quote))


def _post(maker: Maker, number: int) -> bytes:
    body = urlencode(_parameters(maker, number)).encode()
    form = "Content-Type: application/x-www-form-urlencoded\r\n"
    return _head(maker, "POST", "/matomo.php", len(body), form) + body


def _bulk(maker: Maker, number: int) -> bytes:
    items = ["?" + urlencode(_parameters(maker, number + n)) for n in range(3)]
    token = maker.hexadecimal("token_auth of a bulk", 32, carried=False)
    body = json.dumps({"requests": items, "token_auth": token}).encode()
    return _head(maker, "POST", "/matomo.php", len(body)) + body


def _broken(maker: Maker, number: int) -> bytes:
    """What a client should not send; nothing of it needs to go anywhere."""
    mark = quote(maker.any("a broken request", carried=False))
    kind = number // 8 % 8
    if kind == 0:
        return _head(maker, "GET", f"/{mark}", good=False)
    if kind == 1:
        return f"GET /matomo.php?idsite={mark} HTTQ/9\r\n{mark}\r\n\r\n".encode()
    if kind == 2:
        body = json.dumps({"requests": [f"?idsite=1&rec=1&uid={mark}"]}).encode()[:-2]
        return _head(maker, "POST", "/matomo.php", len(body), good=False) + body
    if kind == 3:
        return _head(maker, "GET", f"/matomo.php?idsite=999&rec=1&uid={mark}", good=False)
    if kind == 4:
        return _head(maker, "GET", f"/matomo.php?idsite={mark}&rec=1", good=False)
    if kind == 5:
        return _head(maker, "BREW", f"/matomo.php?{mark}", good=False)
    if kind == 6:
        return _head(maker, "GET", f"/matomo.php?idsite=1&rec=1&a={mark}&url=" + "x" * 70_000, good=False)
    return _head(maker, "GET", f"/index.php?module=API&method={mark}&token_auth={mark}", good=False)


def _left_out(maker: Maker, number: int) -> bytes:
    """Events that are rejected or excluded: not stored, whatever the rules."""
    found = {"idsite": str(SITE), "rec": "1", "url": f"https://{HOST}/"}
    kind = number // 8 % 4
    if kind == 0:
        found |= {"cdt": maker.any("a bad cdt")}
    elif kind == 1:
        # Refused at once, so nothing of it leaves the collector.
        found |= {"cid": maker.any("a bad cid", carried=False), "uid": maker.any("uid beside it", carried=False)}
    elif kind == 2:
        found |= {"rec": "0", "uid": maker.any("uid of an excluded event")}
    else:
        found |= {"ping": "1", "uid": maker.any("uid of a ping")}
    return _head(maker, "GET", "/matomo.php?" + urlencode(found, quote_via=quote), good=kind != 1)


def _recording(maker: Maker, number: int) -> bytes:
    """A chunk of a recording: what is masked, what is shown and holds a value, what is shown."""
    kind = RECORDED

    def text(node: int, content: str) -> dict[str, Any]:
        return {"type": 3, "id": node, "textContent": content}

    def element(node: int, tag: str, attributes: dict[str, str], *children: dict[str, Any]) -> dict[str, Any]:
        return {"type": 2, "id": node, "tagName": tag, "attributes": attributes, "childNodes": list(children)}

    shown = element(
        9,
        "p",
        {"data-matomo-unmask": ""},
        text(10, maker.word(kind + "shown text")),
        text(11, maker.person(kind + "shown text")),
        element(12, "input", {"type": "password", "value": maker.any(kind + "password")}),
    )
    field = element(5, "input", {"value": maker.any(kind + "value"), "placeholder": maker.any(kind + "placeholder")})
    body = element(
        2,
        "body",
        {"title": maker.any(kind + "title"), "data-user": maker.any(kind + "data attribute")},
        text(3, maker.any(kind + "text")),
        element(4, "a", {"href": f"https://{HOST}/?sid={maker.any(kind + 'link', plain=True)}"}),
        field,
        element(6, "script", {}, text(7, maker.any(kind + "script"))),
        {"type": 5, "id": 8, "textContent": maker.any(kind + "comment")},
        shown,
    )
    tell: list[dict[str, Any]] = [
        {"type": 2, "data": {"node": {"type": 0, "id": 1, "childNodes": [body]}}},
        {"type": 3, "data": {"source": 5, "id": 5, "text": maker.any(kind + "input"), "isChecked": False}},
        {"type": 3, "data": {"source": 0, "texts": [{"id": 3, "value": maker.any(kind + "changed text")}]}},
        {"type": 5, "data": {"tag": "signed-in", "payload": {"who": maker.any(kind + "payload")}}},
        {"type": 6, "data": {"plugin": "console", "payload": maker.any(kind + "console")}},
    ]
    events = json.dumps(tell, ensure_ascii=False).encode()
    session = quote(maker.any(kind + "session"))
    return _head(maker, "POST", f"/recordings?idsite={SITE}&session={session}&sequence={number}", len(events)) + events
