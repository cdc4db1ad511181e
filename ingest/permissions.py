"""Parameters that only some may send, and those with values that are refused. Pure.

As Matomo: `cip`, a `cdt` of a day ago or more and a location need a token that may write on the site; a malformed
`cid`, a negative timing and a goal that the site does not have are errors. All are answered with 400.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass

from schemas import addresses, moments, parameters
from schemas.packets import MAPPED_IPV4
from schemas.reasons import Invalid

LOCATION = (b"country", b"region", b"city", b"lat", b"long")
TIMINGS = (b"pf_net", b"pf_srv", b"pf_tfr", b"pf_dm1", b"pf_dm2", b"pf_onl")
GUARDED = frozenset((*LOCATION, *TIMINGS, b"cdt", b"cdo", b"cid", b"cip", b"cs", b"idgoal"))
NOWHERE = MAPPED_IPV4 + bytes(4)  # 0.0.0.0, for an address that the sender does not know

_visitor = re.compile(r"[0-9a-fA-F]{16}").fullmatch


@dataclass(frozen=True, slots=True)
class Refused:
    """A request or item that is not taken. `text` names the parameter, never its value."""

    reason: Invalid
    text: str


def _bad(text: str) -> Refused:
    return Refused(Invalid.BAD_PARAMETER, text)


def refusal(given: Mapping[bytes, str], writes: bool, goals: Set[int], now_ms: int) -> Refused | None:
    """Why a request with these of `GUARDED` is refused; None where it is taken. `writes`: its token may."""
    if not writes:
        for name in (b"cip", *LOCATION):
            if given.get(name):
                return _bad(f"The parameter {name.decode()} needs a token_auth that may write on this site.")
        time = moments.said(given.get(b"cdt", ""), given.get(b"cdo", ""), now_ms)
        if (age := moments.age(time, now_ms)) >= moments.DAY_SECONDS:
            return _bad(
                f"The time of cdt and cdo is {age} seconds ago; from {moments.DAY_SECONDS} on it needs a token_auth."
            )
    if (visitor := given.get(b"cid")) and not _visitor(visitor):
        return _bad("The parameter cid must be exactly 16 hexadecimal digits.")
    for name in TIMINGS:
        if (timing := given.get(name)) is not None and parameters.integer(timing) < 0:
            return _bad(f"The parameter {name.decode()} must not be negative.")
    if goals and (goal := parameters.integer(given.get(b"idgoal"), -1)) > 0 and goal not in goals:
        return _bad("The parameter idgoal names no goal of this site.")
    return None


def address(text: str) -> bytes:
    """The 16 bytes of a `cip`: 0.0.0.0 where it is empty, "-" or no address, as log lines have it."""
    return addresses.pack(text.strip()) or NOWHERE
