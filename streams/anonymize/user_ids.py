"""User ids (`uid`) and custom data.

The default policy stores no user id: a `uid` lives on only as a day-keyed hash that holds a visit together
(`visit_user_id`), and column `user_id` stays 0. Custom data (`data`, `cvar`, `_cvar`, `e_cvar`, `dimension1` to
`dimension999`) has no column and is not kept.
"""

from __future__ import annotations

import re

from streams.keyed import Kind, hash_text

LIMIT = 200  # characters, Matomo's

_control = re.compile(r"[\x00-\x1f\x7f]").sub


def clean(text: str) -> str:
    """A user id as it is compared: without control characters and outer blanks, at most 200 characters."""
    return _control("", text).strip()[:LIMIT]


def user_hash(key: bytes, text: str) -> int:
    """The day-keyed hash of a `uid`, 0 where it is empty after cleaning."""
    user = clean(text)
    return hash_text(key, Kind.USER, user) if user else 0
