"""Free texts: every text that people wrote or that may hold what they wrote passes here before it is stored."""

from __future__ import annotations

from typing import Literal

Field = Literal["text", "url", "path", "keyword", "campaign", "item", "custom"]


def free_text(text: str, field: Field) -> tuple[str, int]:
    """The text as it may be stored, and how many values were removed from it. No detector of values is built in yet."""
    return text, 0
