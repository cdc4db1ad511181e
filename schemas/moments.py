"""When an event happened, by its parameters `cdt` and `cdo`: the same for the collector, which answers, and the worker.

`cdt` is a number of seconds since 1970 or a date and time, in UTC where it names no zone, with fractions of a second
where a client has them. A time to come, one of more than 20 years ago and one that cannot be read are ignored. `cdo` is
a number of seconds before that, or before now. An event of a day ago or more needs a token that may write (Matomo).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from schemas.parameters import integer

DAY_SECONDS = 86_400
OLDEST_MS = 20 * 365 * DAY_SECONDS * 1000
EARLIEST_MS = 946_684_800_000  # 2000-01-01

_number = re.compile(r"@?([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?)", re.ASCII).fullmatch
_date = re.compile(
    r"([0-9]{4})([-/]?)([0-9]{1,2})\2([0-9]{1,2})"
    r"(?:(?:[Tt]|\s+)([0-9]{1,2}):?([0-9]{2})(?::?([0-9]{2})(?:[.,]([0-9]{1,12}))?)?)?"
    r"\s*(?:([Zz]|UTC|GMT)|([+-])([0-9]{2}):?([0-9]{2})?)?",
    re.ASCII,
).fullmatch


def parse(text: str) -> int | None:
    """Milliseconds since 1970 of a `cdt`; None where it is no time."""
    text = text.strip()
    if len(text) > 64:
        return None
    if found := _number(text):
        seconds = float(found[1])
        return round(seconds * 1000) if abs(seconds) < 1e12 else None
    try:
        if found := _date(text):
            year, _, month, day, hour, minute, second, fraction, _, sign, hours, minutes = found.groups()
            moment = datetime(
                int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=UTC
            )
            offset = (int(hours) * 3600 + int(minutes or 0) * 60) * (-1 if sign == "-" else 1) if sign else 0
            return (int(moment.timestamp()) - offset) * 1000 + int(f"{fraction or '':0<3}"[:3])
        if "," in text and text[:1].isalpha():  # RFC 5322, as HTTP writes it
            moment = parsedate_to_datetime(text)
            return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        pass
    return None


def said(cdt: str, cdo: str, now_ms: int) -> int:
    """The time that a request asks for, in milliseconds; `now_ms` where it asks for none or for one that is ignored."""
    time = parse(cdt) if cdt and cdt != "0" else now_ms
    if time is None or not now_ms - OLDEST_MS < time <= now_ms:
        time = now_ms
    return time - abs(integer(cdo)) * 1000


def age(time_ms: int, now_ms: int) -> int:
    """Whole seconds since then; from `DAY_SECONDS` on they need a token."""
    return (now_ms - time_ms) // 1000


def granted(time_ms: int, now_ms: int) -> int:
    """The time that is used of one that was asked for and may be: `now_ms` where an offset led too far back."""
    return time_ms if time_ms > now_ms - OLDEST_MS and time_ms >= EARLIEST_MS else now_ms
