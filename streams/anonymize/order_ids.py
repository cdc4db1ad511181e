"""Order ids (`ec_id`): stored as a hash keyed by the site's day or, where the policy says so, by the site's own key.

Under either key a repeated order is told from a new one, which a random hash (Matomo's) does not allow.
"""

from __future__ import annotations

from streams.anonymize.user_ids import clean
from streams.keyed import Kind, hash_text


def order_hash(key: bytes, text: str) -> int:
    """The keyed hash of an `ec_id`, 0 where it is empty after cleaning."""
    order = clean(text)
    return hash_text(key, Kind.ORDER, order) if order else 0
