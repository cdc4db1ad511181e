"""A query's request and its answer, together, while the query runs."""

from __future__ import annotations

from dataclasses import dataclass

from infra.local.front.access import Account
from infra.local.front.encodings import Encoder, encoder
from infra.local.front.reply import Reply
from infra.local.front.request import Request
from infra.local.front.running import Query
from infra.local.front.wire import Connection, Head


@dataclass(frozen=True, slots=True)
class Exchange:
    """``format`` is that of an answer whose query names none."""

    request: Request
    query: Query
    account: Account
    head: Head
    connection: Connection
    reply: Reply
    format: str

    @property
    def reads_only(self) -> bool:
        """The dashboard, and everybody by GET, as in ClickHouse."""
        return self.account.reads_only or self.head.method != "POST"

    @property
    def patient(self) -> bool:
        """The client would rather wait than get an answer that breaks off."""
        return self.request.parameters.get("wait_end_of_query", "0") in ("1", "true")

    @property
    def cancels_on_close(self) -> bool:
        return self.request.parameters.get("cancel_http_readonly_queries_on_client_close", "0") in ("1", "true")

    def encoder(self) -> Encoder | None:
        return encoder(self.head.headers.get("accept-encoding", ""), self.request.parameters)
