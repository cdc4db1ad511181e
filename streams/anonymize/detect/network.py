"""Addresses of networks and of their devices, written out: IPv4, IPv6 (RFC 4291, RFC 5952) and MAC (IEEE 802).

Versions look like IPv4: four numbers below ten, or numbers after a word such as "version" or the name of a program, are
none. What names a network, 81.2.0.0 or 2a01:4f8::, and loopback name nobody.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import AddressValueError, IPv6Address

_ipv4 = re.compile(r"[0-9](?<![A-Za-z0-9_.].)[0-9]{0,2}(?:\.[0-9]{1,3}){3}(?![A-Za-z0-9_]|\.[0-9])").finditer
_version = re.compile(
    r"(?:(?<![A-Za-z])(?:v|ver|version|release|rel|build|firmware|fw|driver|update|patch|sdk)[^A-Za-z0-9]{0,3}"
    r"|(?:chrome|firefox|safari|edge?|opr|android|webkit|windows)[ /]"
    r"|(?:^|[\s;(+,=\"'])[A-Za-z][A-Za-z0-9]*/)$",
    re.IGNORECASE,
).search
_ipv6 = re.compile(r"(?<![A-Za-z0-9_:.])[0-9A-Fa-f:][0-9A-Fa-f:.]{2,44}(?![A-Za-z0-9_:])").finditer
_mac = re.compile(
    r"(?<![A-Za-z0-9_:.-])(?:[0-9A-Fa-f]{2}([:-])(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}"
    r"|[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4})(?![A-Za-z0-9_:]|[.-][A-Za-z0-9])"
).finditer
_LOOK_BACK = 24


def find_ip(text: str) -> Iterator[tuple[int, int]]:
    """Where IPv4 and IPv6 addresses begin and end."""
    if "." in text:
        for match in _ipv4(text):
            if _host(match[0]) and not _version(text, max(0, match.start() - _LOOK_BACK), match.start()):
                yield match.span()
    if ":" in text:
        for match in _ipv6(text):
            found = match[0].rstrip(".")
            if found.count(":") >= 2 and _host6(found):
                yield match.start(), match.start() + len(found)


def find_mac(text: str) -> Iterator[tuple[int, int]]:
    """Where MAC addresses begin and end."""
    for match in _mac(text):
        if match[1] == ":" or not match[0].replace("-", "").replace(".", "").isdecimal():
            yield match.span()


def _host(text: str) -> bool:
    parts = text.split(".")
    if any(int(part) > 255 or (part[0] == "0" and part != "0") for part in parts) or parts[3] == "0":
        return False
    first = int(parts[0])
    large = sum(len(part) > 1 for part in parts)
    return first not in (0, 127, 255) and (large > 1 or first == 10)


def _host6(text: str) -> bool:
    groups = [group for group in text.split(":") if group]
    if text.endswith("::") or len(groups) < 2 or not any(char.isdecimal() for char in text):
        return False
    if "::" in text and max(map(len, groups)) < 3:
        return False
    try:
        IPv6Address(text)
    except AddressValueError:
        return False
    return True
