"""The visitor's address behind proxies. A header counts only when a trusted proxy sent it, never from a stranger.

    peer  a trusted network?  -- no --> the peer is the visitor
      | yes
    X-Forwarded-For: spoofed, visitor, proxy2        read from its end, less what is trusted: visitor

As in Matomo, "first" reads from the beginning instead; that is only safe where the outermost proxy replaces what the
client wrote. An entry that is no address ends the reading, since nothing before it can be trusted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from schemas import addresses

# Headers that may carry the visitor's address; they are read for that and never leave the collector.
ADDRESS_HEADERS = (
    "forwarded",
    "x-forwarded-for",
    "x-real-ip",
    "x-client-ip",
    "client-ip",
    "cf-connecting-ip",
    "true-client-ip",
)
ENTRIES_LIMIT = 64  # of one header


class ProxiesError(ValueError):
    """A setting of proxies is wrong; the message says which part and what is expected."""


class Proxies:
    """Who is trusted to say for whom it speaks."""

    def __init__(self, networks: Sequence[str] = (), headers: Sequence[str] = (), *, first: bool = False) -> None:
        """Raises ProxiesError."""
        self._trusted = []
        for network in networks:
            found = addresses.parse_range(network)
            if found is None:
                raise ProxiesError(f"{network!r} is not an address or network, such as 10.0.0.0/8")
            self._trusted.append(found)
        for header in headers:
            if header not in ADDRESS_HEADERS:
                raise ProxiesError(f"{header!r} is not one of {', '.join(ADDRESS_HEADERS)}")
        self._headers = tuple(headers)
        self._first = first

    def trusts(self, address: bytes) -> bool:
        """Whether the peer with this address is a proxy of ours."""
        return addresses.any_holds(self._trusted, address)

    def visitor(self, peer: bytes, fields: Mapping[str, bytes]) -> bytes:
        """The visitor's address, of a request whose peer is trusted: the first header that names one, else the peer."""
        for header in self._headers:
            value = fields.get(header)
            if value is not None and (found := self._chosen(peer, entries(header, value))) is not None:
                return found
        return peer

    def _chosen(self, peer: bytes, found: Sequence[str]) -> bytes | None:
        for entry in found if self._first else found[::-1]:
            address = addresses.pack(entry)
            if address is None:
                return None
            if address != peer and not self.trusts(address):
                return address
        return None


def entries(header: str, value: bytes) -> list[str]:
    """The entries of a list of addresses in the order they were added; of `Forwarded` (RFC 7239) the `for` of each."""
    found = [entry.strip() for entry in value.decode("latin-1").split(",")]
    if header == "forwarded":
        found = [_for(entry) for entry in found if entry]
    return [entry for entry in found if entry][-ENTRIES_LIMIT:]


def _for(element: str) -> str:
    for pair in element.split(";"):
        name, _, value = pair.partition("=")
        if name.strip().lower() == "for":
            return value.strip().strip('"') or "unknown"
    return "unknown"
