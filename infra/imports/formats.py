"""The formats of access logs: a line becomes a `Hit`, or says why it is none.

common      host - user [date] "request" status bytes           (Apache, nginx: "%h %l %u %t \\"%r\\" %>s %b")
combined    the same with "referrer" "agent"
nginx-json  a JSON object a line, with the names that nginx's variables and Matomo's importer have
iis         W3C extended: fields as a line `#Fields:` names them, a blank between
cloudfront  the same with tabs, values percent-encoded
custom      a regular expression with named groups: address, time, path; and query, host, status, method, referrer,
            agent, milliseconds
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import unquote

FORMATS = ("common", "combined", "nginx-json", "iis", "cloudfront", "custom")
GROUPS = ("address", "time", "path", "query", "host", "status", "method", "referrer", "agent", "milliseconds")


class Hit(NamedTuple):
    """One request to a web server. `time`: seconds since 1970 UTC. `path` with its query; "" for what is unknown."""

    address: str
    time: float
    path: str
    status: int = 200
    method: str = "GET"
    host: str = ""
    referrer: str = ""
    agent: str = ""
    milliseconds: int = 0


class FormatError(ValueError):
    """The format is not usable; the message says why."""


Parser = Callable[[str], "Hit | None"]
"""Raises nothing: None is a line that is no hit, such as a comment or one that is broken."""

_months = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec"
_MONTHS = {name: n for n, name in enumerate(_months.split(), 1)}
_common = r'(?P<address>\S+) \S+ \S+ \[(?P<time>[^\]]+)\] "(?P<request>[^"\\]*(?:\\.[^"\\]*)*)" (?P<status>\d{3}) \S+'
_tail = r' "(?P<referrer>[^"\\]*(?:\\.[^"\\]*)*)" "(?P<agent>[^"\\]*(?:\\.[^"\\]*)*)"'
_escaped = re.compile(r"\\(x[0-9a-fA-F]{2}|.)").sub
_JSON_NAMES = {
    "address": ("remote_addr", "ip", "client_ip"),
    "time": ("time_iso8601", "date", "time_local", "msec"),
    "path": ("request_uri", "path", "uri"),
    "request": ("request",),
    "status": ("status",),
    "method": ("request_method", "method"),
    "host": ("host", "http_host", "server_name"),
    "referrer": ("http_referer", "referrer", "referer"),
    "agent": ("http_user_agent", "user_agent"),
    "seconds": ("request_time",),
    "milliseconds": ("generation_time_milli",),
}


def parser(name: str, expression: str = "", time_format: str = "") -> Parser:
    """The parser of a format; raises FormatError. `expression`, `time_format` (strptime's): of custom alone."""
    if name == "common":
        return _by_expression(re.compile(_common).match, _clock)
    if name == "combined":
        return _by_expression(re.compile(_common + _tail).match, _clock)
    if name == "nginx-json":
        return _json
    if name == "iis":
        return _Extended(" ")
    if name == "cloudfront":
        return _Extended("\t")
    if name != "custom":
        raise FormatError(f"there is no format {name!r}, only {', '.join(FORMATS)}")
    try:
        found = re.compile(expression)
    except re.error as error:
        raise FormatError(f"the expression is no regular expression: {error}") from None
    missing = [group for group in GROUPS[:3] if group not in found.groupindex]
    if not expression or missing:
        raise FormatError(f"the expression needs named groups {', '.join(missing)}, as in (?P<path>\\S+)")
    if unknown := sorted(set(found.groupindex) - set(GROUPS)):
        raise FormatError(f"the expression names {', '.join(unknown)}; known are {', '.join(GROUPS)}")
    if not time_format:
        return _by_expression(found.search, moment)
    return _by_expression(found.search, lambda text: _aware(datetime.strptime(text, time_format)))


def moment(text: str) -> float:
    """Seconds since 1970 UTC of a time as logs write it; without a zone it is UTC. Raises ValueError."""
    if text.replace(".", "", 1).isdigit():
        return float(text)
    if text[2:3] == "/" and text[6:7] == "/":
        return _clock(text)
    return _aware(datetime.fromisoformat(text))


def _aware(time: datetime) -> float:
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


_days: dict[str, float] = {}


def _clock(text: str) -> float:
    """Of `10/Oct/2025:13:55:36 +0200`."""
    key = text[:11] + text[20:]
    day = _days.get(key)
    if day is None:
        if len(_days) > 10_000:
            _days.clear()
        zone = text[21:26] or "+0000"
        date = datetime(int(text[7:11]), _MONTHS[text[3:6]], int(text[:2]), tzinfo=UTC).timestamp()
        offset = (int(zone[1:3]) * 60 + int(zone[3:5])) * 60
        day = _days[key] = date + (offset if zone[0] == "-" else -offset)
    return day + int(text[12:14]) * 3600 + int(text[15:17]) * 60 + int(text[18:20])


def _plain(text: str) -> str:
    """A quoted text of Apache or nginx without its escapes; "-" is nothing."""
    if text == "-":
        return ""
    if "\\" not in text:
        return text
    return _escaped(
        lambda found: chr(int(found[1][1:], 16)) if found[1][0] == "x" and len(found[1]) == 3 else found[1], text
    )


def _by_expression(match: Callable[[str], re.Match[str] | None], clock: Callable[[str], float]) -> Parser:
    def parse(line: str) -> Hit | None:
        found = match(line)
        if found is None:
            return None
        groups = found.groupdict("")
        try:
            method, path = groups.get("method") or "GET", groups.get("path", "")
            if "request" in groups:
                method, _, rest = groups["request"].partition(" ")
                path = rest.rpartition(" ")[0] or rest
            if groups.get("query", "") not in ("", "-"):
                path += "?" + groups["query"]
            return Hit(
                groups["address"],
                clock(groups["time"]),
                _plain(path),
                int(groups.get("status") or 200),
                method,
                _plain(groups.get("host", "")),
                _plain(groups.get("referrer", "")),
                _plain(groups.get("agent", "")),
                int(float(groups.get("milliseconds") or 0)),
            )
        except (ValueError, KeyError, OverflowError):
            return None

    return parse


def _json(line: str) -> Hit | None:
    try:
        data = json.loads(line)
        if not isinstance(data, dict):
            return None
        given = {
            name: str(next((data[key] for key in keys if data.get(key) not in (None, "-")), ""))
            for name, keys in _JSON_NAMES.items()
        }
        method, path = given["method"] or "GET", given["path"]
        if given["request"]:
            method, _, rest = given["request"].partition(" ")
            path = path or rest.rpartition(" ")[0]
        if not (given["address"] and given["time"] and path):
            return None
        spent = float(given["milliseconds"] or 0) or float(given["seconds"] or 0) * 1000
        time, status = moment(given["time"]), int(given["status"] or 200)
        return Hit(
            given["address"], time, path, status, method, given["host"], given["referrer"], given["agent"], int(spent)
        )
    except (ValueError, OverflowError, RecursionError):
        return None


class _Extended:
    """W3C extended log format: each `#Fields:` line says what follows."""

    def __init__(self, separator: str) -> None:
        self._separator = separator
        self._at: dict[str, int] = {}

    def __call__(self, line: str) -> Hit | None:
        if line.startswith("#"):
            if line.startswith("#Fields:"):
                self._at = {name: n for n, name in enumerate(line[8:].split())}
            return None
        values = line.split(self._separator)
        if len(values) < len(self._at) or not self._at:
            return None

        def value(*names: str) -> str:
            for name in names:
                if name in self._at and (found := values[self._at[name]]) not in ("-", ""):
                    return found
            return ""

        try:
            time = moment(f"{value('date')}T{value('time')}")
            path, query = value("cs-uri-stem"), value("cs-uri-query")
            agent, referrer = value("cs(User-Agent)"), value("cs(Referer)")
            if self._separator == " ":
                agent, spent = agent.replace("+", " "), int(value("time-taken") or 0)
            else:
                agent, spent = unquote(unquote(agent)), int(float(value("time-taken") or 0) * 1000)
            return Hit(
                value("c-ip"),
                time,
                path + ("?" + query if query else ""),
                int(value("sc-status") or 200),
                value("cs-method") or "GET",
                value("x-host-header", "cs(Host)", "cs-host"),
                unquote(referrer) if self._separator == "\t" else referrer,
                agent,
                spent,
            )
        except (ValueError, OverflowError):
            return None
