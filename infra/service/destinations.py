"""Where this installation connects to on behalf of others: videos that are fetched, webhooks. Pure.

A URL is never judged by its text alone: what counts is the address that is connected to (`outbound`), so that names
that resolve to inner addresses, and numbers in whatever form, are refused alike.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import quote, urljoin, urlsplit

import idna

Address = IPv4Address | IPv6Address

LONGEST_URL = 4096  # characters
PORTS = {"http": 80, "https": 443}

# IANA's IPv4 special-purpose registry (RFC 6890 and later) without what is globally reachable; multicast; and the
# address under which Azure's hosts serve their machines, which is public by its number alone.
INNER_V4 = tuple(
    IPv4Network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
        *("203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "168.63.129.16/32"),
    )
)
# Of IPv6 only what is assigned as global unicast (RFC 4291), without protocol assignments (Teredo among them),
# documentation and 6to4.
GLOBAL_V6 = IPv6Network("2000::/3")
INNER_V6 = tuple(
    IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "2620:4f:8000::/48")
)
NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052; how an IPv6-only network reaches IPv4

_name = re.compile(
    r"(?=.{1,253}$)[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*"
)
_odd = re.compile(r"[\x00-\x20\x7f-\x9f\\\ud800-\udfff]")


class Refused(Exception):
    """There is no connecting to this; the message does not quote the URL."""


def public(address: Address) -> bool:
    """Whether an address is one of the public internet; of those that hold an IPv4 address, whether that is."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped
        if inner is None and address in NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is None:
            return address in GLOBAL_V6 and not any(address in network for network in INNER_V6)
        address = inner
    return not any(address in network for network in INNER_V4)


@dataclass(frozen=True, slots=True)
class Destination:
    """A URL taken apart. `host` is ASCII, without brackets or a dot at the end; `target` is the path and the query."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """As the `Host` header names it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def literal(self) -> Address | None:
        """The address, where the host is one as addresses are usually written."""
        try:
            return ip_address(self.host)
        except ValueError:
            return None

    def joined(self, location: str) -> str:
        """The URL that a `Location` header means."""
        return urljoin(f"{self.scheme}://{self.authority}{self.target}", location)


def destination(url: str, schemes: Collection[str], ports: Collection[int]) -> Destination:
    """Where a URL leads; raises Refused unless scheme, port and host may be asked for."""
    if len(url) > LONGEST_URL:
        raise Refused(f"the URL is longer than {LONGEST_URL} characters")
    if _odd.search(url):
        raise Refused("the URL holds spaces, control characters or backslashes")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Refused("the URL cannot be taken apart") from None
    scheme = parts.scheme.lower()
    if scheme not in schemes:
        raise Refused(f"the URL must begin with {' or '.join(f'{scheme}://' for scheme in sorted(schemes))}")
    if "@" in parts.netloc:
        raise Refused("the URL holds a user name or a password")
    if port is None:
        port = PORTS[scheme]
    if port not in ports:
        raise Refused(f"the port must be {' or '.join(map(str, sorted(ports)))}")
    target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    if parts.query:
        target += "?" + quote(parts.query, safe="/?%:@!$&'()*+,;=~-._[]|^")
    return Destination(scheme, _host(parts.hostname or "", bracketed="[" in parts.netloc), port, target)


def _host(name: str, *, bracketed: bool) -> str:
    if bracketed:
        try:
            return str(IPv6Address(name if "%" not in name else "none"))
        except ValueError:
            raise Refused("the URL's host is no address") from None
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True).decode("ascii")
        except idna.IDNAError:
            raise Refused("the URL's host is no name of a host") from None
    name = name.lower().removesuffix(".")
    if not _name.fullmatch(name):
        raise Refused("the URL's host is no name of a host")
    return name
