"""User ids (`uid`).

A `uid` holds a visit together as a day-keyed hash (`visit_user_id`). Whether column `user_id` has a hash of it too, by
the key of the day or of the site, and column `user_name` the id as it came, the policy says. Where it is dropped, the
default, it is used only where a request names no visitor id, and then in that one's place: so no row tells whether its
visitor was signed in, which would be one more thing to link days by.
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
    """The keyed hash of a `uid`, 0 where it is empty after cleaning."""
    user = clean(text)
    return hash_text(key, Kind.USER, user) if user else 0
