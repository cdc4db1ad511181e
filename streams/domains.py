"""Places on the web as site files name them: `shop.example`, `*.shop.example`, `shop.example:8080`, `shop.example/en`.

`www.` makes no difference, a host without a port is meant with any, `*.shop.example` is shop.example too, and a path
holds what lies below it, in any case.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

WHOLE = 1  # the depth of a host without a path

_ALL = ("/",)  # the folders of a host that is held as a whole

_port = re.compile(r":[0-9]*$").sub


def canonical(path: str) -> str:
    """A path with which folders are compared: lower case, with a slash at both ends."""
    path = path.lower().rstrip("/") + "/"
    return path if path[0] == "/" else f"/{path}"


def bare(host: str) -> str:
    """A host (lower case, perhaps with a port) without `www.`."""
    return host.removeprefix("www.")


def portless(host: str) -> str:
    """A host without its port; an IPv6 address stays in its brackets."""
    return _port("", host) if ":" in host else host


class Domains:
    """Of a list of places, which holds a page."""

    __slots__ = ("_below", "_exact")

    def __init__(self, texts: Iterable[str]) -> None:
        self._exact: dict[str, tuple[str, ...]] = {}
        self._below: dict[str, tuple[str, ...]] = {}
        for text in texts:
            host, _, path = text.lower().partition("/")
            table = self._below if host.startswith("*.") else self._exact
            name = host.removeprefix("*.") if table is self._below else bare(host)
            paths = {*table.get(name, ()), canonical(path)}
            table[name] = tuple(sorted(paths, key=len, reverse=True))

    def __bool__(self) -> bool:
        return bool(self._exact or self._below)

    def depth(self, host: str, path: str) -> int:
        """The length of the longest path that holds a page, WHOLE where that is a host's all; 0 where none does."""
        if not self:
            return 0
        name = bare(host)
        plain = portless(name)
        found = [self._exact.get(name, ())]
        if not self._below and plain is name and (not found[0] or found[0] == _ALL):
            return WHOLE if found[0] else 0
        path = canonical(path)
        if plain != name:
            found.append(self._exact.get(plain, ()))
        while self._below and plain:
            found.append(self._below.get(plain, ()))
            plain = plain.partition(".")[2]
        depths = (len(folder) for folders in found for folder in folders if path.startswith(folder))
        return max(depths, default=0)
