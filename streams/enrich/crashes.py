"""Crash reports: errors of scripts, which trackers send as custom actions (`ca=1`) with a message (`cra`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from schemas import parameters

PARAMETERS = ("ca", "cra", "cra_tp", "cra_ct", "cra_ru", "cra_rl", "cra_rc", "cra_st")
MOST_FRAMES = 50  # lines of a stack that are kept
LARGEST = 2**31 - 1


class Crash(NamedTuple):
    """What is stored of a crash. `source`: the script or page; `line`, `column` in it from 1, 0 where nothing is said;
    `stack`: a frame a line."""

    message: str = ""
    type: str = ""
    category: str = ""
    source: str = ""
    line: int = 0
    column: int = 0
    stack: str = ""


NONE = Crash()


def of_request(given: Mapping[str, str], clean: Callable[[str], str], address: Callable[[str], str]) -> Crash:
    """The crash of a request; NONE without a message or without `ca=1`. `clean` texts, `address` URLs."""
    if not given.get("cra", "").strip() or parameters.integer(given.get("ca")) != 1:
        return NONE
    # Line by line: what cleans a text removes the ends of its lines, and cuts it.
    frames = [clean(line) for line in given.get("cra_st", "").splitlines()[:MOST_FRAMES]]
    return Crash(
        message=clean(given["cra"]),
        type=clean(given.get("cra_tp", "")),
        category=clean(given.get("cra_ct", "")),
        source=address(given.get("cra_ru", "")),
        line=parameters.integer(given.get("cra_rl"), 0, 0, LARGEST),
        column=parameters.integer(given.get("cra_rc"), 0, 0, LARGEST),
        stack="\n".join(frame for frame in frames if frame),
    )
