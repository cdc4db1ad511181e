"""Free texts: every text that people wrote or that may hold what they wrote passes here before it is stored."""

from __future__ import annotations

from streams.anonymize import detect
from streams.anonymize.split import LIMIT
from streams.rules import Rules


def free_text(text: str, rules: Rules, limit: int = LIMIT) -> str:
    """The text as it may be stored, in at most `limit` bytes: without the values that the site's detectors find."""
    return detect.mask(text, rules.detectors, limit)
