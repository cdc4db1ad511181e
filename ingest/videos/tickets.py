"""Each request to make a job has a ticket in the storage, so that what is asked again is one job (Idempotency-Key), and
what a process that was killed has begun is cleaned up.

A ticket holds the job's id and a hash of what was asked, never the thing itself. It is `taken` once Kafka has the job.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable

import msgspec

from infra.service.storage import Storage
from ingest.videos.problems import Problem
from schemas.videos import ATTEMPT_KEYS, deleted_key, new_id, request_key, upload_key, url_key, webhook_key

LONGEST_KEY = 255  # characters of an Idempotency-Key
# As long as the log may hold a job, and a margin (schemas.topics).
MARK_SECONDS = 8 * 24 * 3600.0


class Ticket(msgspec.Struct, frozen=True):
    """What a request has become."""

    key: str
    job: str
    queued_ms: int
    asked: str
    taken: bool = False


class Tickets:
    """The tickets of an installation; `seconds`: how long one is kept. Every method may wait and raise OSError."""

    def __init__(self, storage: Storage, seconds: float) -> None:
        self._private = storage.private
        self._seconds = seconds

    def claim(self, site: int, given: str | None, asked: bytes, now_ms: int) -> Ticket:
        """The ticket of a request, which is an earlier one's where that had the same key; raises Problem when the
        earlier one asked for something else. `given`: the Idempotency-Key, None without one."""
        if given is not None and not (0 < len(given) <= LONGEST_KEY and given.isprintable()):
            raise Problem(400, f"an Idempotency-Key has 1 to {LONGEST_KEY} printable characters")
        name = secrets.token_hex(32) if given is None else hashlib.sha256(f"{site}\0{given}".encode()).hexdigest()
        ticket = Ticket(request_key(name), new_id(now_ms), now_ms, hashlib.sha256(asked).hexdigest())
        while not self._private.create(ticket.key, msgspec.json.encode(ticket)):
            earlier = self._read(ticket.key)
            if earlier is None or earlier.queued_ms < now_ms - self._seconds * 1000:
                self._private.remove(ticket.key)  # it has expired
            elif earlier.asked != ticket.asked:
                raise Problem(422, "the Idempotency-Key was used before, for another request")
            else:
                return earlier
        return ticket

    def taken(self, ticket: Ticket) -> None:
        """Remembers that Kafka has the job."""
        self._private.put(ticket.key, msgspec.json.encode(msgspec.structs.replace(ticket, taken=True)))

    def forget(self, ticket: Ticket) -> None:
        """Removes a ticket: what it asked for came to nothing."""
        self._private.remove(ticket.key)

    def discard(self, ticket: Ticket) -> None:
        """Removes what a job was to need that Kafka never had."""
        for key in (upload_key, url_key, webhook_key):
            self._private.remove(key(ticket.job))

    def clean(self, now: float, known: Callable[[str], bool]) -> None:
        """Removes what is over: tickets, uploads that became no job, marks of deleted jobs, URLs,
        hooks, and which records of jobs were worked on. `known` says whether there is a job of this id."""
        for key in self._private.old(request_key(""), now - self._seconds):
            ticket = self._read(key)
            if ticket is not None and not ticket.taken and not known(ticket.job):
                self.discard(ticket)
            self._private.remove(key)
        for prefix in (deleted_key(""), url_key(""), webhook_key(""), ATTEMPT_KEYS):
            for key in self._private.old(prefix, now - MARK_SECONDS):
                self._private.remove(key)

    def _read(self, key: str) -> Ticket | None:
        try:
            return msgspec.json.decode(self._private.read(key) or b"", type=Ticket)
        except msgspec.DecodeError:
            return None
