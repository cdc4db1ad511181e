"""Granian with an RSGI handler that does nothing: what HTTP alone costs. DISCARD=1 reads the body and discards it."""

from __future__ import annotations

import os
from typing import Any

DISCARD = os.environ.get("DISCARD") == "1"


async def _empty(scope: Any, protocol: Any) -> None:
    protocol.response_empty(204, [])


async def _discard(scope: Any, protocol: Any) -> None:
    await protocol()
    protocol.response_empty(204, [])


app = _discard if DISCARD else _empty
