"""Tokens of the API: what one may do, and until when. Only the hash of a token is ever written down."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping
from datetime import datetime

import msgspec

from schemas.packets import Role

ROLES = tuple(role.name.lower() for role in Role if role)

_digest = re.compile(r"[0-9a-f]{64}").fullmatch


class TokenError(ValueError):
    """A token is written down wrongly; the message says what is expected."""


class Token(msgspec.Struct, frozen=True):
    """What a token may do. `expires`: seconds since 1970 from which it counts no more; None for never."""

    role: Role
    description: str = ""
    expires: float | None = None

    @property
    def now(self) -> Role:
        """Its role, NONE once it has expired."""
        return self.role if self.expires is None or time.time() < self.expires else Role.NONE


class TokenEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token as a table in a file; the role alone, as a text, says the same."""

    role: str
    description: str = ""
    expires: datetime | None = None


def token_hash(token: str) -> str:
    """How a token is written in a file: the sha256 in hex. It is looked up by this, so no timing tells a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def read_tokens(entries: Mapping[str, str | TokenEntry]) -> dict[str, Token]:
    """The tokens of a table `[tokens]`, by hash; raises TokenError."""
    tokens = {}
    for digest, found in entries.items():
        entry = TokenEntry(found) if isinstance(found, str) else found
        if not _digest(digest):
            raise TokenError("must be named by the sha256 of the token, 64 hex digits")
        if entry.role.lower() not in ROLES:
            raise TokenError(f"must have the role {', '.join(ROLES[:-1])} or {ROLES[-1]}")
        if entry.expires is not None and entry.expires.tzinfo is None:
            raise TokenError("must have expires with an offset, such as 2027-01-31T00:00:00Z")
        ends = None if entry.expires is None else entry.expires.timestamp()
        tokens[digest] = Token(Role[entry.role.upper()], entry.description, ends)
    return tokens
