"""Consent: what an action says of it, and what the actions of a visit say together."""

from __future__ import annotations

from collections.abc import Iterable

from schemas.packets import Flag
from schemas.parameters import integer

UNKNOWN, REFUSED, GIVEN, MIXED = -1, 0, 1, 2


def said(text: str) -> int:
    """What parameter `consent` says: UNKNOWN for anything but 0 and 1."""
    number = integer(text, UNKNOWN)
    return number if number in (REFUSED, GIVEN) else UNKNOWN


def of_action(text: str, flags: int) -> int:
    """The consent of an action: the parameter's, else that of the cookie `mtm_consent`."""
    number = said(text)
    return GIVEN if number == UNKNOWN and flags & Flag.CONSENT else number


def of_visit(actions: Iterable[int]) -> int:
    """The consent of a visit, of those of its actions that say something; the view `visit_consent` tells the same."""
    known = {number for number in actions if number != UNKNOWN}
    return MIXED if len(known) > 1 else known.pop() if known else UNKNOWN
