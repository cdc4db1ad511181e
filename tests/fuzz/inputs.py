"""What one connection sends: requests of all forms, then damage. A pure function of seed and number.

Structure first, so that most inputs get past the parser; bit flips and cuts last, so that some do not.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

SITES = 5  # of the laboratory; parameters also name others
MOST_REQUESTS = 24  # of one connection

METHODS = (
    "GET",
    "GET",
    "GET",
    "GET",
    "POST",
    "POST",
    "HEAD",
    "OPTIONS",
    "PUT",
    "get",
    "G\x00T",
    "CONNECT",
    "TRACE",
    "",
)
PATHS = (
    *("/matomo.php",) * 12,
    *("/piwik.php", "/js/", "/js/tracker.php", "//matomo.php", "/", "*", "/x", "/matomo.php/..", "matomo.php"),
    *("http://c/matomo.php", "https://c:1/piwik.php", "ftp://c/matomo.php", "http://", "c:443", "/%6datomo.php"),
)
VERSIONS = (*("1.1",) * 14, "1.0", "1.0", "0.9", "2.0", "1.10", "", "x")
NAMES = (
    *("url", "urlref", "action_name", "_id", "uid", "cid", "cip", "cdt", "cdo", "ua"),
    *("uadata", "lang", "res", "r", "pv_id"),
    *("h", "m", "s", "ping", "ca", "e_c", "e_a", "e_n", "e_v"),
    *("link", "download", "search", "search_cat", "search_count"),
    *("idgoal", "revenue", "ec_id", "ec_items", "ec_st", "ec_tx", "ec_sh", "ec_dt", "_pks", "_pkn", "_pkc", "_pkp"),
    *("c_n", "c_p", "c_t", "c_i", "cvar", "_cvar", "_rcn", "_rck", "_refts"),
    *("_ref", "_idts", "_idvc", "_viewts", "_idn"),
    *("dimension1", "dimension999", "pf_net", "pf_srv", "pf_tfr", "pf_dm1", "pf_dm2", "pf_onl", "gt_ms", "bots", "cs"),
    *("country", "region", "city", "lat", "long", "new_visit", "cookie", "send_image", "token_auth", "queuedtracking"),
    *("recMode", "http_status", "bw_bytes", "source", "ma_ti", "ma_mt", "fa_id", "hsr_x"),
    *("consent", "dp", "rand", "pdf"),
)  # fmt: skip
VALUES = (
    *("", "0", "1", "-1", "2147483648", "9" * 400, "1e999", "-1e-999", "nan", "inf"),
    *("0x10", "1.5", " 1", "1%00", "%00"),
    *("%", "%zz", "%u0041", "%c3", "%c3%28", "%ED%A0%80", "%F4%90%80%80", "%25%32%35"),
    *("+", "%0d%0aX:+y", "a;b", "null"),
    *("[]", "{}", "%5B%5B", "%7B%22a%22%3A"),
    *("%5B1%2C%222%22%5D", "%7B%221%22%3A%5B%22a%22%2C%22b%22%5D%7D", "undefined"),
    *("http%3A%2F%2Fshop.example%2Fa%3Fb%3Dc%23d", "https://x.example/?q=1", "http://[::1]:99999/", "http://["),
    *("//", "?"),
    *("javascript:alert(1)", "http%3A%2F%2Fu%3Ap%40h%2F", "http://xn--/", "http://%00/"),
    *("http://a..b/", "%F0%9F%92%A9"),
    *("0123456789abcdef", "0123456789ABCDEF", "g" * 16, "2026-11-25 12:00:00"),
    *("1764000000", "99999999999999", "0000-00-00"),
    *("2026-02-30 25:61:61", "10.0.0.1", "::1", "-", "fe80::1%25eth0", "800x600"),
    *("x" * 3000, "%E2%80%8B" * 300, "\x7f", "é"),
    "%5B%5B%22sku%22%2C%22name%22%2C%5B%22cat%22%5D%2C%221e400%22%2C99999999999999999999%5D%5D",
    "%7B%22brands%22%3A%5B%7B%22brand%22%3A1%7D%5D%2C%22mobile%22%3A%22x%22%7D",
    "%5B" * 500,
)  # fmt: skip
HEADERS: tuple[Callable[[Random], str], ...] = (
    lambda r: (
        "User-Agent: " + r.choice(("", "curl/8", "Mozilla/5.0 (X11; Linux) Firefox/99.0", "\xff\xfe", "a" * 2000))
    ),
    lambda r: "Accept-Language: " + r.choice(("de", "", ",;q=", "xx-" + "y" * 99, "en;q=9e9")),
    lambda r: "Origin: " + r.choice(("https://p.example", "null", "*", "a b", "x" * 600)),
    lambda r: "Referer: " + r.choice(("http://p.example/", "", "\xe9", "h" * 5000)),
    lambda r: (
        "Content-Type: " + r.choice(("application/json", "application/x-www-form-urlencoded", ";", "multipart/x"))
    ),
    lambda r: "Cookie: " + r.choice(("mtm_consent_removed=1", "a=b; c", "_pk_id.1.1fff=x", ";;;")),
    lambda r: "X-Forwarded-For: " + r.choice(("1.2.3.4", "unknown, ::1", "," * 100, "x")),
    lambda r: "Connection: " + r.choice(("close", "keep-alive", "Upgrade", "x, close", "Upgrade, HTTP2-Settings")),
    lambda r: "Upgrade: " + r.choice(("h2c", "websocket", "")),
    lambda r: "Expect: " + r.choice(("100-continue", "100-Continue", "x")),
    lambda r: "Idempotency-Key: " + r.choice(("a", "", "k" * 300)),
    lambda r: "Sec-CH-UA: " + r.choice(('"A";v="1"', '"', "\xff")),
    lambda r: "Sec-Purpose: " + r.choice(("prefetch", "prefetch;prerender", "x")),
    lambda r: "Content-Length: " + r.choice(("0", "00", "-1", "+5", "1,1", "99999999999999999999", "5 ", "0x5")),
    lambda r: (
        "Transfer-Encoding: " + r.choice(("chunked", "identity", "gzip, chunked", "chunked, chunked", "xchunked"))
    ),
    lambda r: "X: y\r\n folded: z" if r.random() < 0.5 else "X\x00: y",
    lambda r: "H" * r.choice((1, 300, 20000)) + ": x",
    lambda r: r.choice((" : x", ": x", "no colon", "a: b\rc: d", "a: b\nc: d")),
)


@dataclass(frozen=True, slots=True)
class Input:
    """`pieces`: what is sent, each in a segment of its own. `requests`: how many it was made of."""

    pieces: list[bytes]
    requests: int

    @property
    def data(self) -> bytes:
        """All that is sent."""
        return b"".join(self.pieces)


def make(seed: int, number: int) -> Input:
    """The input of one connection."""
    r = Random(f"{seed}/{number}")
    count = r.choice((1, 2, 4, 8, 16, MOST_REQUESTS, MOST_REQUESTS))
    # Most of a connection is in order, so that what is odd meets a parser that has seen something.
    odd = r.choice((0.0, 0.0, 0.02, 0.02, 0.2, 1.0))
    data = b"".join(_request(r, odd) if r.random() < 0.6 else _common(r) for _ in range(count))
    if r.random() < 0.25:
        data = _damaged(r, data)
    return Input(_cut(r, data), count)


def _common(r: Random) -> bytes:
    """What a browser sends; its head is met again and again."""
    agent = r.choice(("curl/8.0", "Mozilla/5.0 (X11; Linux x86_64; rv:99.0) Gecko/20100101 Firefox/99.0"))
    head = f"HTTP/1.1\r\nHost: c\r\nUser-Agent: {agent}\r\n\r\n"
    return f"GET /matomo.php?{_query(r, 0.0)} {head}".encode("utf-8", "surrogatepass")


def _query(r: Random, odd: float) -> str:
    pairs = [f"idsite={r.randint(1, SITES)}", "rec=1"]
    for _ in range(r.randint(0, 8)):
        name = r.choice(NAMES)
        if r.random() < odd * 0.2:
            name = r.choice(
                (f"{name}[]", f"{name}[a][b]", f"%{ord(name[0]):02x}{name[1:]}", name.upper(), "", "=", "%")
            )
        value = r.choice(VALUES)
        if r.random() >= odd:  # what no head may hold would end the connection before the rest of it is read
            value = value.replace(" ", "%20").replace("\x7f", "%7F")
        pairs.append(f"{name}={value}" if r.random() > odd * 0.1 else name)
    if r.random() < odd * 0.5:
        pairs += r.choices(pairs, k=r.choice((1, 2, 30)))
    if r.random() < odd * 0.1:
        pairs.append("url=" + "u" * r.choice((4000, 14000, 40000)))
    if r.random() < odd * 0.3:
        pairs[0] = "idsite=" + r.choice(
            ("0", "-1", "6", "01", "1.0", "1e0", "%31", "4294967296", "9" * 5000, "", "1,2")
        )
    r.shuffle(pairs)
    return "&".join(pairs)


def _request(r: Random, odd: float) -> bytes:
    strange = r.random() < odd
    method = r.choice(METHODS) if strange else r.choice(METHODS[:8])
    path = r.choice(PATHS if strange else PATHS[:16])
    version = r.choice(VERSIONS) if strange else "1.1"
    query = _query(r, odd) if r.random() < 0.8 else ""
    lines = ["Host: c"] + [r.choice(HEADERS[: len(HEADERS) if strange else 13])(r) for _ in range(r.randint(0, 5))]
    if not strange:
        lines = [line for line in lines if not line.startswith(("Connection", "Upgrade"))]
        method = r.choice(("GET", "POST", "POST", "HEAD"))
    body = b""
    if method == "POST":
        body = r.choice((_bulk, _bulk, _form, _noise))(r)
        if r.random() < 0.3:
            lines.append("Transfer-Encoding: chunked")
            body = _chunked(r, body, odd)
        else:
            wrong = r.random() < odd * 0.2
            lines.append(f"Content-Length: {len(body) + r.choice((-3, 1, 100)) if wrong else len(body)}")
    r.shuffle(lines)
    end = "\r\n" if r.random() > odd * 0.05 else r.choice(("\n", "\r", "\r\r\n"))
    head = end.join([f"{method} {path}{'?' if query else ''}{query} HTTP/{version}", *lines, "", ""])
    return head.encode("utf-8" if r.random() < 0.5 else "latin-1", "replace") + body


def _form(r: Random) -> bytes:
    return _query(r, 1.0).encode("utf-8", "surrogatepass")


def _noise(r: Random) -> bytes:
    return r.randbytes(r.choice((1, 30, 3000)))


def _bulk(r: Random) -> bytes:
    items: list[Any] = []
    for _ in range(r.choice((0, 1, 1, 2, 5, 20))):
        kind = r.random()
        if kind < 0.6:
            items.append("?" + _query(r, 0.5))
        elif kind < 0.75:
            items.append(dict(pair.partition("=")[::2] for pair in _query(r, 0.5).split("&")) | {"n": _json(r, 3)})
        elif kind < 0.85:
            items.append(_query(r, 1.0) + "\udce9\ud800?\x00" + "?" + _query(r, 0.2) + "\udc80")
        else:
            items.append(_json(r, 3))
    body: dict[str, Any] = {"requests": items}
    for name in ("token_auth", "send_image", "requests "):
        if r.random() < 0.3:
            body[name] = _json(r, 2)
    if r.random() < 0.05:
        body["requests"] = _json(r, 2)
    text = json.dumps(body, ensure_ascii=r.random() < 0.7)
    damage = r.random()
    if damage < 0.06:
        at = r.randrange(len(text))
        text = (
            text[:at]
            + r.choice(('"', "\\", "\\u", "\\ud800", "\0", "[" * 2000, "]", "1" * 5000, "{", "e99999"))
            + text[at:]
        )
    elif damage < 0.09:
        depth = r.choice((50, 900, 1100, 100_000))
        text = text[:-1] + ', "send_image": ' + "[" * depth + "]" * depth + "}"
    elif damage < 0.11:
        text = text[:-1] + ', "requests": ' + r.choice(("1" * 5000, "1e999", "-0", '{"a":1}', "[[[[]]]]")) + "}"
    elif damage < 0.13:
        text = text.replace('"', "'")
    return text.encode("utf-8", "surrogatepass")


def _json(r: Random, depth: int) -> Any:
    kind = r.randrange(9 if depth else 6)
    if kind < 6:
        return (
            None,
            True,
            r.choice((0, -1, 2**70, 10**300)),
            r.choice((1.5, 1e308, float("inf"))),
            "\x00\ud800é",
            "1",
        )[kind]
    if kind == 6:
        return [_json(r, depth - 1) for _ in range(r.randint(0, 3))]
    return {r.choice((*NAMES, "", "[", "\ud800", "idsite", "rec")): _json(r, depth - 1) for _ in range(r.randint(0, 3))}


def _chunked(r: Random, body: bytes, odd: float) -> bytes:
    size = max(1, len(body) // r.choice((1, 3, 50)))
    parts: list[bytes] = []
    for start in range(0, len(body), size):
        piece = body[start : start + size]
        extension = r.choice((b"", b";a=b", b';a="', b";" + b"e" * 300)) if r.random() < odd else b""
        count = b"%x" % len(piece) if r.random() > odd * 0.05 else r.choice((b"-1", b"fffffffffffffffff", b"", b"g"))
        parts += (count, extension, b"\r\n", piece, b"\r\n")
    trailer = r.choice((b"", b"Content-Length: 5\r\n", b"X: " + b"t" * 3000 + b"\r\n")) if r.random() < odd else b""
    return b"".join(parts) + b"0\r\n" + trailer + b"\r\n"


def _damaged(r: Random, data: bytes) -> bytes:
    found = bytearray(data)
    for _ in range(r.choice((1, 1, 2, 8, 40))):
        at = r.randrange(len(found) + 1)
        kind = r.randrange(5)
        if kind == 0 and at < len(found):
            found[at] ^= 1 << r.randrange(8)
        elif kind == 1:
            del found[at : at + r.choice((1, 2, 50))]
        elif kind == 2:
            found[at:at] = r.choice((b"\r\n", b"\0", b" ", b"\r\n\r\n", b"%", b"\xff", b"&", b"?", b"\nX: y\r\n"))
        elif kind == 3:
            found[at:at] = found[at : at + r.choice((4, 64, 512))]
        else:
            found = found[:at] if r.random() < 0.2 else found
    return bytes(found)


def _cut(r: Random, data: bytes) -> list[bytes]:
    if r.random() < 0.5 or len(data) < 2:
        return [data]
    at = sorted({r.randrange(1, len(data)) for _ in range(r.choice((1, 2, 6)))})
    return [data[a:b] for a, b in zip([0, *at], [*at, len(data)], strict=True)]
