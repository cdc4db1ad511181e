"""Session recordings and heatmaps of a site: table `[recordings]` of its file over that of `default.toml`.

    [recordings]
    enabled = true                       # default: nothing is taken
    share = 0.1                          # of sessions that are stored, above 0 to 1
    unmask = ["[data-matomo-unmask]", ".article"]   # elements whose texts are shown; all others are masked

A selector is a name of a tag, classes, an id and attributes, each of which may be missing: `p`, `.article`, `#faq`,
`main.wide[data-open=yes]`. What is shown is still searched for personal data, and fields of forms that are known to
hold it stay masked (`streams.anonymize.recordings`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

TOLD = frozenset(("hsr_ev", "hsr_sr"))  # parameters of a tracking request that tell of actions
UNMASK = ("[data-matomo-unmask]",)  # Matomo's mark, on an element or around it
MOST_SELECTORS = 64

_NAME = r"[A-Za-z_][A-Za-z0-9_-]{0,63}"
_selector = re.compile(rf"({_NAME})?((?:[.#]{_NAME}|\[{_NAME}(?:=[A-Za-z0-9_-]{{1,64}})?\])*)").fullmatch
_part = re.compile(r"([.#])([^.#\[]+)|\[([^=\]]+)(?:=([^\]]*))?\]").findall


class RecordingsError(ValueError):
    """A rule of recordings is wrong; the message names the key and what is expected."""


class Recordings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is in force at a site. `share`: of sessions. `unmask`: selectors."""

    enabled: bool = False
    share: float = 1.0
    unmask: tuple[str, ...] = UNMASK


class RecordingsTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table as it stands in a file; what is None is decided by the next one."""

    enabled: bool | None = None
    share: float | None = None
    unmask: list[str] | None = None


class Selector(NamedTuple):
    """Which elements are meant. `tag`, `id`: "" for any. `attributes`: name and value, None for any value."""

    tag: str
    id: str
    classes: tuple[str, ...]
    attributes: tuple[tuple[str, str | None], ...]

    def matches(self, tag: str, attributes: Mapping[str, object]) -> bool:
        """Whether an element is meant; tag and names of attributes in lower case."""
        classes = str(attributes.get("class", "")).split()
        return (
            self.tag in ("", tag)
            and (not self.id or attributes.get("id") == self.id)
            and all(name in classes for name in self.classes)
            and all(
                name in attributes and (value is None or attributes[name] == value) for name, value in self.attributes
            )
        )


def selector(text: str) -> Selector:
    """A selector taken apart; raises RecordingsError."""
    found = _selector(text)
    if not text or found is None:
        raise RecordingsError(
            f"recordings.unmask holds {text!r}, must be a tag, .class, #id or [attribute], or several of them in a row"
        )
    parts: list[tuple[str, str, str, str]] = _part(found[2])
    ids = [name for sign, name, _, _ in parts if sign == "#"]
    return Selector(
        (found[1] or "").lower(),
        ids[0] if ids else "",
        tuple(name for sign, name, _, _ in parts if sign == "."),
        tuple((name.lower(), value or None) for _, _, name, value in parts if name),
    )


def resolve(*tables: RecordingsTable) -> Recordings:
    """What holds, of tables with the strongest first; raises RecordingsError."""
    given: dict[str, Any] = {}
    for name in Recordings.__struct_fields__:
        value = next((found for table in tables if (found := getattr(table, name)) is not None), None)
        if value is not None:
            given[name] = tuple(sorted(set(value))) if isinstance(value, list) else value
    found = Recordings(**given)
    if not 0 < found.share <= 1:
        raise RecordingsError("recordings.share must be above 0, and 1 at most")
    if len(found.unmask) > MOST_SELECTORS:
        raise RecordingsError(f"recordings.unmask must hold at most {MOST_SELECTORS} selectors")
    for text in found.unmask:
        selector(text)
    return found
