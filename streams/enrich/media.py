"""Media analytics: the state of a player, which trackers send again and again under the `ma_id` of one playing."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from schemas import parameters

PARAMETERS = (
    *("ma_id", "ma_re", "ma_mt", "ma_ti", "ma_pn", "ma_st", "ma_le", "ma_ps", "ma_ttp", "ma_w", "ma_h"),
    "ma_fs",
)
KINDS = ("video", "audio")
LONGEST = 2**31 - 1

_id = re.compile(r"[0-9a-zA-Z_-]{1,32}").fullmatch


class Media(NamedTuple):
    """What is stored of a player. Times are seconds, sizes pixels; 0 where the request says nothing."""

    id: str = ""
    type: str = ""
    title: str = ""
    url: str = ""
    player: str = ""
    watched: int = 0
    length: int = 0
    position: int = 0
    wait: int = 0
    width: int = 0
    height: int = 0
    fullscreen: int = 0


NONE = Media()


def of_request(given: Mapping[str, str], clean: Callable[[str], str], address: Callable[[str], str]) -> Media:
    """The media of a request; NONE without a valid `ma_id` or without `ma_re`. `clean` texts, `address` URLs."""
    id = given.get("ma_id", "").strip()
    if not _id(id) or not given.get("ma_re", "").strip():
        return NONE
    kind = given.get("ma_mt", "").strip().lower()

    def number(name: str) -> int:
        return parameters.integer(given.get(name), 0, 0, LONGEST)

    return Media(
        id=id,
        type=kind if kind in KINDS else "",
        title=clean(given.get("ma_ti", "")),
        url=address(given["ma_re"]),
        player=clean(given.get("ma_pn", "")),
        watched=number("ma_st"),
        length=number("ma_le"),
        position=number("ma_ps"),
        wait=number("ma_ttp"),
        width=number("ma_w"),
        height=number("ma_h"),
        fullscreen=int(number("ma_fs") == 1),
    )
