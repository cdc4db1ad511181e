"""What an answer says about each event of its request."""

from __future__ import annotations

import json
from collections.abc import Sequence

from infra.load.journal import Fate, Outcome
from infra.load.traffic import Request

_ACKNOWLEDGED, _REFUSED, _UNKNOWN = int(Outcome.ACKNOWLEDGED), int(Outcome.REFUSED), int(Outcome.UNKNOWN)
_MAY_BE_REFUSED = int(Fate.REFUSED)


def outcomes(request: Request, status: int, body: bytes) -> tuple[Sequence[int], bool]:
    """The outcome of each event, and whether the answer is one that the rules allow.

    2xx acknowledges and 400, 413 and 431 refuse; all else (503, CUT, TIMED_OUT, …) leaves it unknown. Of a bulk's
    answer `invalid_indices` is taken at its word; without it, the events refused must be those that may be refused.
    """
    expected = request.expected
    if request.bulk and (200 <= status < 300 or status in (400, 500)):
        return _of_bulk(expected, status, body)
    if 200 <= status < 300:
        return bytes([_ACKNOWLEDGED]) * len(expected), all(fate != _MAY_BE_REFUSED for fate in expected)
    if status in (400, 413, 431):
        return bytes([_REFUSED]) * len(expected), all(fate & _MAY_BE_REFUSED for fate in expected)
    return bytes([_UNKNOWN]) * len(expected), True


def _of_bulk(expected: bytes, status: int, body: bytes) -> tuple[Sequence[int], bool]:
    count = len(expected)
    if status == 204:  # send_image=0: no word about single events
        return [_REFUSED if fate == _MAY_BE_REFUSED else _ACKNOWLEDGED for fate in expected], True
    try:
        answer = json.loads(body)
        tracked, invalid = int(answer["tracked"]), int(answer["invalid"])
        indices = answer.get("invalid_indices")
    except (ValueError, KeyError, TypeError, AttributeError):
        return bytes([_UNKNOWN]) * count, False
    if tracked + invalid != count:
        return bytes([_UNKNOWN]) * count, False
    if isinstance(indices, list):
        out = bytearray([_ACKNOWLEDGED]) * count
        for index in indices:
            if not isinstance(index, int) or not 0 <= index < count:
                return bytes([_UNKNOWN]) * count, False
            out[index] = _REFUSED
        return out, all(
            fate & _MAY_BE_REFUSED if outcome == _REFUSED else fate != _MAY_BE_REFUSED
            for outcome, fate in zip(out, expected, strict=True)
        )
    if tracked == 0:
        return bytes([_REFUSED]) * count, all(fate & _MAY_BE_REFUSED for fate in expected)
    must = sum(fate == _MAY_BE_REFUSED for fate in expected)
    if invalid == must:
        return [_REFUSED if fate == _MAY_BE_REFUSED else _ACKNOWLEDGED for fate in expected], True
    if must < invalid == sum(bool(fate & _MAY_BE_REFUSED) for fate in expected):
        return [_REFUSED if fate & _MAY_BE_REFUSED else _ACKNOWLEDGED for fate in expected], True
    return bytes([_UNKNOWN]) * count, False
