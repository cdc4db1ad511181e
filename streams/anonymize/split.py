"""URLs taken apart, and texts tidied: what every rule on them begins with."""

from __future__ import annotations

import re
from typing import NamedTuple

from schemas.parameters import decode

LIMIT = 1024  # bytes of a stored text, Matomo's page_maximum_length
RAW_LIMIT = 8192  # characters of a raw text that are looked at
SCHEMES = frozenset({"http", "https"})  # the common ones, which need no look at the grammar

# What nearly every address is: nothing in it needs a closer look.
_common = re.compile(r"(https?)://([a-z0-9.-]{1,255})((?:/[^?#;]*)?)(?:\?([^#]*))?").fullmatch
_control = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]").sub
_brackets = re.compile(r"%5[bBdD]").sub
_scheme = re.compile(r"(?:([^\W\d_][^\W_]*(?:[+.\-][^\W_]*)*)?:)?//(.+)", re.DOTALL | re.ASCII).fullmatch
_after_host = re.compile(r"[/?#%\\\s\x00-\x1f].*", re.DOTALL).sub
DECODINGS = 3  # of a host
_RUN = frozenset({"javascript", "vbscript", "data"})  # what follows would be run, not visited


class Parameter(NamedTuple):
    """One part of a query string: its decoded name in lower case, its raw value, the part as it came."""

    name: str
    value: str
    part: str


class Parts(NamedTuple):
    """A URL taken apart. `host` is lower case, with the port where one is given; there are no credentials."""

    scheme: str
    host: str
    path: str
    parameters: tuple[Parameter, ...]
    fragment: str
    fragment_parameters: tuple[Parameter, ...]


def cut(text: str, limit: int = LIMIT) -> str:
    """The text in at most `limit` bytes of UTF-8, never ending within a character."""
    if len(text) <= limit and (text.isascii() or len(text) * 4 <= limit):
        return text
    data = text.encode("utf-8", "replace")
    return text if len(data) <= limit else data[:limit].decode("utf-8", "ignore")


def tidy(text: str) -> str:
    """The text without control characters, lone surrogates and outer blanks."""
    text = text[:RAW_LIMIT]
    return (text if text.isprintable() else _control("", text)).strip()


def parameters(query: str) -> tuple[Parameter, ...]:
    """The parts of a query string, in order; empty parts are left out."""
    out = []
    for part in query.split("&"):
        if part:
            name, equals, value = part.partition("=")
            if "%5" in name:  # brackets are written as such, so that one page has one URL (Matomo)
                name = _brackets(lambda match: "[" if match[0][-1] in "bB" else "]", name)
                part = name + equals + value
            name = decode(name) if "%" in name or "+" in name else name
            out.append(Parameter(name.lower(), value, part))
    return tuple(out)


def _host(authority: str) -> str:
    """The host and port of an authority, lower case, without credentials, and with nothing left that is encoded.

    "" where what stands for a port is none.
    """
    if "%" in authority:
        for _ in range(DECODINGS):
            authority = decode(authority)
        authority = _after_host("", tidy(authority).rpartition("@")[2])
    host = authority.rpartition("@")[2].lower()
    _, colon, port = host.rpartition(":")
    if colon and port and not port.isdecimal() and not host.endswith("]"):
        return ""  # no port, and perhaps a password with a slash in it
    return host


def split(text: str) -> Parts | None:
    """A decoded URL taken apart; None where it is none, has no host, or is a script.

    As in Matomo any scheme will do (RFC 3986, 3.1), and a network-path reference `//host/path` has none.
    """
    text = tidy(text)
    if found := _common(text):
        scheme, host, path, query = found.groups()
        return Parts(scheme, host, path, parameters(query) if query else (), "", ())
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in SCHEMES:
        found = _scheme(text)
        if found is None:
            return None
        scheme, rest = (found[1] or "").lower(), found[2]
        if scheme in _RUN:
            return None
    rest, _, fragment = rest.partition("#")
    rest, _, query = rest.rstrip().partition("?")
    rest = rest.rstrip()
    host, slash, path = rest.partition("/")
    host = _host(host)
    if ";" in path:
        path, _, matrix = path.partition(";")
        query = matrix.replace(";", "&") + ("&" + query if query else "")
    if not host:
        return None
    inner = parameters(fragment.partition("?")[2] or fragment) if "=" in fragment else ()
    return Parts(scheme, cut(host, 255), slash + path, parameters(query) if query else (), fragment, inner)
