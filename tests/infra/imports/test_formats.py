"""Lines of access logs, and the requests that are made of them."""

from __future__ import annotations

from urllib.parse import parse_qs

import pytest

from infra.imports.formats import FormatError, Hit, parser
from infra.imports.requests import Chosen

AT = 1_760_104_536.0  # 2025-10-10 13:55:36 UTC
EDGE = "Mozilla/5.0 (Windows NT 10.0) Edg/130"

LINES = [
    (
        "common",
        '198.51.100.7 - jo [10/Oct/2025:15:55:36 +0200] "GET /a?b=c HTTP/1.1" 200 12',
        Hit("198.51.100.7", AT, "/a?b=c"),
    ),
    (
        "combined",
        f'2001:db8::1 - - [10/Oct/2025:13:55:36 +0000] "POST /a HTTP/2.0" 404 - "https://x.example/" "{EDGE}"',
        Hit("2001:db8::1", AT, "/a", 404, "POST", "", "https://x.example/", EDGE),
    ),
    (
        "combined",
        r'198.51.100.7 - - [10/Oct/2025:09:55:36 -0400] "GET /a\"b\x20c HTTP/1.1" 200 1 "-" "a \"b\" \\ c"',
        Hit("198.51.100.7", AT, '/a"b c', 200, "GET", "", "", 'a "b" \\ c'),
    ),
    (
        "nginx-json",
        '{"remote_addr":"198.51.100.7","time_iso8601":"2025-10-10T15:55:36+02:00","request":"GET /a HTTP/1.1",'
        '"status":"200","http_referer":"-","http_user_agent":"x","host":"shop.example","request_time":0.25}',
        Hit("198.51.100.7", AT, "/a", 200, "GET", "shop.example", "", "x", 250),
    ),
    (
        "nginx-json",
        '{"ip":"198.51.100.7","date":"2025-10-10T13:55:36Z","path":"/a","status":200,"referrer":"https://x.example/",'
        '"user_agent":"x","generation_time_milli":12.6}',
        Hit("198.51.100.7", AT, "/a", 200, "GET", "", "https://x.example/", "x", 12),
    ),
    ("nginx-json", '{"msec":1760104536.5,"ip":"198.51.100.7","request_uri":"/a"}', Hit("198.51.100.7", AT + 0.5, "/a")),
]
BROKEN = [
    ("common", ""),
    ("common", "nonsense"),
    ("combined", '198.51.100.7 - - [10/Oct/2025:13:55:36 +0000] "GET /a HTTP/1.1" 200 12'),
    ("common", '198.51.100.7 - - [10/Foo/2025:13:55:36 +0000] "GET /a HTTP/1.1" 200 12'),
    ("common", '198.51.100.7 - - [40/Oct/2025:13:55:36 +0000] "GET /a HTTP/1.1" 200 12'),
    ("nginx-json", "{"),
    ("nginx-json", "[]"),
    ("nginx-json", '{"ip":"198.51.100.7","path":"/a"}'),
    ("nginx-json", '{"ip":"198.51.100.7","path":"/a","date":"soon"}'),
    ("iis", "2025-10-10 13:55:36 /a"),
    ("custom", "no such line"),
]
PLAIN = r"(?P<address>\S+) (?P<time>\S+) (?P<path>\S+)"


@pytest.mark.parametrize(("name", "line", "expected"), LINES)
def test_a_line(name: str, line: str, expected: Hit) -> None:
    assert parser(name)(line) == expected


@pytest.mark.parametrize(("name", "line"), BROKEN)
def test_a_line_that_is_no_hit(name: str, line: str) -> None:
    assert parser(name, PLAIN)(line) is None


def test_iis() -> None:
    parse = parser("iis")
    assert parse("#Software: Microsoft Internet Information Services 10.0") is None
    fields = "#Fields: date time s-ip cs-method cs-uri-stem cs-uri-query c-ip cs(User-Agent) cs(Referer) sc-status "
    fields += "time-taken"
    line = "2025-10-10 13:55:36 10.0.0.1 GET /a b=c 198.51.100.7 Mozilla/5.0+(Windows) - 200 46"
    assert parse(fields) is None
    assert parse(line) == Hit("198.51.100.7", AT, "/a?b=c", 200, "GET", "", "", "Mozilla/5.0 (Windows)", 46)
    assert parse("#Fields: date time c-ip cs-uri-stem") is None  # the fields change
    assert parse("2025-10-10 13:55:36 198.51.100.7 /b") == Hit("198.51.100.7", AT, "/b")


def test_cloudfront() -> None:
    parse = parser("cloudfront")
    parse("#Version: 1.0")
    parse(
        "#Fields: date time x-edge-location sc-bytes c-ip cs-method cs(Host) cs-uri-stem sc-status cs(Referer) "
        "cs(User-Agent) cs-uri-query x-host-header time-taken"
    )
    line = (
        "2025-10-10\t13:55:36\tFRA1\t9\t198.51.100.7\tGET\td1.cloudfront.net\t/a\t200\thttps://x.example/%2520\t"
        "Mozilla/5.0%2520(Windows)\t-\tshop.example\t0.046"
    )
    assert parse(line) == Hit(
        "198.51.100.7", AT, "/a", 200, "GET", "shop.example", "https://x.example/%20", "Mozilla/5.0 (Windows)", 46
    )


def test_custom() -> None:
    assert parser("custom", PLAIN)("198.51.100.7 2025-10-10T13:55:36 /a") == Hit("198.51.100.7", AT, "/a")
    parse = parser(
        "custom", r"(?P<path>\S+) (?P<query>\S+) (?P<address>\S+) (?P<status>\d+) (?P<time>.+)", "%d.%m.%Y %H:%M:%S %z"
    )
    assert parse("/a b=c 198.51.100.7 301 10.10.2025 15:55:36 +0200") == Hit("198.51.100.7", AT, "/a?b=c", 301)


@pytest.mark.parametrize(
    ("name", "expression", "message"),
    [
        ("apache", "", "cloudfront"),
        ("custom", "", "address, time, path"),
        ("custom", "(", "no regular expression"),
        ("custom", PLAIN + "(?P<ip>x)", "names ip"),
    ],
)
def test_a_format_that_is_none(name: str, expression: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        parser(name, expression)


CHOSEN = Chosen(3, "https://shop.example")


def asked(hit: Hit, chosen: Chosen = CHOSEN) -> dict[str, str]:
    request = chosen.request(hit)
    assert request is not None
    assert request.startswith("?")
    return {name: values[0] for name, values in parse_qs(request[1:], keep_blank_values=True).items()}


def test_a_request() -> None:
    hit = Hit("198.51.100.7", AT, "/ä?x=1&y=%20", 200, "GET", "", "https://x.example/", EDGE, 12)
    assert asked(hit) == {
        "idsite": "3",
        "rec": "1",
        "url": "https://shop.example/ä?x=1&y=%20",
        "cdt": "1760104536",
        "cip": "198.51.100.7",
        "ua": EDGE,
        "urlref": "https://x.example/",
        "pf_srv": "12",
    }
    assert asked(hit._replace(time=AT + 0.25))["cdt"] == "2025-10-10T13:55:36.250Z"
    assert asked(hit._replace(host="other.example"))["url"].startswith("https://other.example/")
    assert asked(hit._replace(address="proxy.example"))["cip"] == "0.0.0.0"
    assert asked(hit._replace(path="/files/a.PDF?x"))["download"] == "https://shop.example/files/a.PDF?x"
    assert asked(hit, Chosen(3, "https://shop.example", bots=True))["bots"] == "1"


def test_what_does_not_count() -> None:
    hit = Hit("198.51.100.7", AT, "/a")
    for other in (
        hit._replace(method="HEAD"),
        hit._replace(status=404),
        hit._replace(status=301),
        hit._replace(path="/a.css?v=1"),
    ):
        assert CHOSEN.request(other) is None
    everything = Chosen(3, "https://shop.example", static=True, errors=True)
    assert asked(hit._replace(status=404), everything)["action_name"] == "404/URL = %2Fa"
    assert asked(hit._replace(path="/a.css"), everything)["url"] == "https://shop.example/a.css"
    assert CHOSEN.request(hit._replace(status=304)) is not None
