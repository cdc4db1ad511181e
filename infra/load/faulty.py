"""Requests that are wrong, odd or unwanted: each with the fates that the rules leave it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from infra.load.journal import Fate
from infra.load.numbers import page_view_id

UNKNOWN_SITE = 4_000_000_000
UNWANTED = Fate.REJECTED | Fate.REFUSED  # wrong in a parameter: the collector or the worker says so, one of the two
UNPROVEN = UNWANTED | Fate.STORED  # a claim without a token: refused, or kept without what it claims
NOT_ASKED = Fate.EXCLUDED | Fate.REFUSED  # without `rec` there is nothing to record, in whichever words that is said


@dataclass(frozen=True, slots=True)
class Faulty:
    """A request: query of the target, body (None: GET), headers beyond the usual ones."""

    query: str
    body: bytes | None
    fates: Fate
    headers: str = ""


def _page(site: int, number: int) -> str:
    return f"idsite={site}&rec=1&url=https%3A%2F%2Fodd.example%2F{number}&pv_id={page_view_id(number)}"


def _in_query(fates: Fate, change: Callable[[str, int], str]) -> Callable[[Random, int, int], Faulty]:
    return lambda random, site, number: Faulty(change(_page(site, number), site), None, fates)


def _with(fates: Fate, more: str) -> Callable[[Random, int, int], Faulty]:
    return _in_query(fates, lambda page, site: f"{page}&{more}")


def _in_body(fates: Fate, body: Callable[[Random, int, int], bytes]) -> Callable[[Random, int, int], Faulty]:
    return lambda random, site, number: Faulty("", body(random, site, number), fates)


def _header(line: str) -> Callable[[Random, int, int], Faulty]:
    return lambda random, site, number: Faulty(_page(site, number), None, Fate.EXCLUDED, line + "\r\n")


KINDS: dict[str, Callable[[Random, int, int], Faulty]] = {
    # never acknowledged
    "unknown site": _in_query(
        Fate.REFUSED, lambda page, site: page.replace(f"idsite={site}", f"idsite={UNKNOWN_SITE}")
    ),
    "no site": _in_query(Fate.REFUSED, lambda page, site: page.replace(f"idsite={site}&", "")),
    "site is a word": _in_query(Fate.REFUSED, lambda page, site: page.replace(f"idsite={site}", "idsite=shop")),
    "site is negative": _in_query(Fate.REFUSED, lambda page, site: page.replace(f"idsite={site}", f"idsite=-{site}")),
    "noise": _in_body(Fate.REFUSED, lambda random, site, number: random.randbytes(20 + random.randrange(8_000))),
    "broken JSON": _in_body(
        Fate.REFUSED, lambda random, site, number: f'{{"requests":["?{_page(site, number)}",'.encode()
    ),
    "JSON without requests": _in_body(Fate.REFUSED, lambda random, site, number: b'{"requests":17}'),
    "nothing": _in_body(Fate.REFUSED, lambda random, site, number: b""),
    # acknowledged, or refused for a parameter
    "negative timing": _with(UNWANTED, "pf_srv=-5"),
    "visitor id of 3 digits": _with(UNWANTED, "cid=abc"),
    "address without a token": _with(UNPROVEN, "cip=203.0.113.9"),
    # acknowledged and not kept
    "not to be recorded": _in_query(Fate.EXCLUDED, lambda page, site: page.replace("rec=1", "rec=0")),
    "without rec": _in_query(NOT_ASKED, lambda page, site: page.replace("&rec=1", "")),
    "prefetched": _header("X-Moz: prefetch"),
    "previewed": _header("X-Purpose: preview"),
    "opted out": _header("Cookie: matomo_ignore=ignore%3D%2A"),
    # odd, and stored all the same
    "huge timing": _with(Fate.STORED, "pf_net=99999999999999999999&pf_onl=16777216"),
    "huge numbers": _with(Fate.STORED, "search=x&search_count=99999999999999999999&h=99&m=-1&s=4294967296"),
    "no number": _with(Fate.STORED, "e_c=a&e_a=b&e_v=NaN"),
    "infinite value": _with(Fate.STORED, "e_c=a&e_a=b&e_v=1e999"),
    "broken escapes": _with(Fate.STORED, "action_name=100%&urlref=https://x.example/%zz%4&res=%"),
    "not UTF-8": _with(Fate.STORED, "action_name=caf%e9%ff%fe&_id=%80%81"),
    "not UTF-8, raw": _in_body(
        Fate.STORED, lambda random, site, number: _page(site, number).encode() + b"&action_name=caf\xe9 \xff\xfe"
    ),
    "control characters": _with(Fate.STORED, "action_name=a%00b%0d%0ac%1b%5b31m&uid=%00"),
    "long title": _with(Fate.STORED, "action_name=" + "%E6%9D%B1" * 900),
    "names twice": _with(Fate.STORED, "action_name=one&action_name=two&&&=&=x&y"),
    "markup": _with(Fate.STORED, "action_name=%3Cscript%3Ealert(1)%3C%2Fscript%3E'%3B--&e_c=%27%22%5C"),
    "null everywhere": _with(Fate.STORED, "e_c=null&e_a=null&e_n=null&e_v=null&uid=null&_id=null"),
    "items that are none": _with(
        Fate.STORED, "idgoal=0&ec_id=x&revenue=9&ec_items=%5B%5B%22a%22%5D%2C7%2Cnull%2C%7B%7D"
    ),
    "not an address": _with(Fate.STORED, "urlref=http%3A%2F%2F%5B%3A%3A1&action_name=x"),
}
_ALL = tuple(KINDS.values())


def faulty(random: Random, site: int, number: int) -> Faulty:
    """A request of any of the kinds; those with a readable number carry this one."""
    return _ALL[int(random.random() * len(_ALL))](random, site, number)
