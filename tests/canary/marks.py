"""The marks: texts that stand nowhere else, made by seed, and the forms in which they are searched for."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from random import Random
from urllib.parse import quote, quote_plus

from tests.streams.anonymize.detect import people

LEAST = 9  # bytes of a mark: what is shorter stands somewhere by chance
_HEXADECIMAL = frozenset("0123456789abcdef")
_SYLLABLES = [first + second for first in "bdfgklmnprst" for second in "aeo"]


@dataclass(frozen=True, slots=True)
class Mark:
    """kind: "a" any text where the policy drops or hashes; "b" a value of a kind that is detected; "c" a neutral word.

    field: where it is planted. carried: whether it leaves the collector in a packet that is understood, so that a scan
    without rules must find it.
    """

    kind: str
    field: str
    text: str
    carried: bool


class Maker:
    """Makes marks, each once."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.marks: list[Mark] = []
        self._seen: set[str] = set()

    def any(self, field: str, *, carried: bool = True, plain: bool = False) -> str:
        """A text of class A; with odd characters unless `plain`, as what stands in a header must be."""
        odd = "" if plain else self.random.choice(("", " é", "/ü", "+x", "'\"", " 漢字", "~%"))
        word = "".join(self.random.choice("bcdfghjkmnpqrstvwxz") for _ in range(10))
        return self._add("a", field, f"{word}{self.random.randrange(10**6):06d}{odd}", carried)

    def hexadecimal(self, field: str, digits: int, *, carried: bool = True) -> str:
        """An id or a token."""
        return self._add("a", field, f"{self.random.getrandbits(4 * digits):0{digits}x}", carried)

    def address(self) -> str:
        """An address of the public internet, whose last half says who it is."""
        while True:
            if self.random.random() < 0.3:
                text = str(ip_address(0x2A02 << 112 | self.random.getrandbits(112)))
            else:
                numbers = self.random.randint(60, 99), *self.random.choices(range(101, 255), k=3)
                text = ".".join(map(str, numbers))
            if text not in self._seen:
                return self._add("a", "address", text, True)

    def person(self, field: str) -> str:
        """A text with a value of a kind that is detected, as people write it."""
        while True:
            kind = self.random.choice(list(KINDS))
            before, text = KINDS[kind](self.random)
            if len(text) >= LEAST and text not in self._seen and not any(text in seen for seen in self._seen):
                self._add("b", f"{field} ({kind})", text, True)
                return before + text

    def word(self, field: str) -> str:
        """A neutral word."""
        while True:
            text = "".join(self.random.choice(_SYLLABLES) for _ in range(6))
            if text not in self._seen:
                return self._add("c", field, text, True)

    def _add(self, kind: str, field: str, text: str, carried: bool) -> str:
        self._seen.add(text)
        self.marks.append(Mark(kind, field, text, carried))
        return text


def _alone(make: Callable[[Random], str]) -> Callable[[Random], tuple[str, str]]:
    return lambda random: ("", make(random))


KINDS: dict[str, Callable[[Random], tuple[str, str]]] = {
    "email": _alone(people.email),
    "phone": people.phone,
    "iban": _alone(people.iban),
    "card": _alone(people.card),
    "national_id": people.national_id,
    "token": people.token,
    "ip": _alone(people.ip),
    "mac": _alone(people.mac),
    "name": people.name,
}


def forms(text: str) -> Iterator[bytes]:
    """As it is, as in JSON, percent-encoded once and twice, in upper and lower case, in base64 wherever it begins."""
    for one in {text, text.upper(), text.lower()}:
        yield one.encode()
        yield json.dumps(one)[1:-1].encode()
    escaped = json.dumps(text)[1:-1]
    for quoted in {
        quote(escaped, safe=""),
        quote_plus(escaped),
        quote(text, safe=""),
        quote(text),
        quote_plus(text),
        quote(text).lower(),
    }:
        yield quoted.encode()
        yield quote(quoted, safe="").encode()
        yield quote(quoted).encode()
    data = text.encode()
    for skipped in range(3):
        # Of the letters only those that depend on nothing but the mark.
        encoded = base64.b64encode(bytes(skipped) + data)
        first = -(-8 * skipped // 6)
        core = encoded[first : 8 * (skipped + len(data)) // 6]
        yield core
        yield core.replace(b"+", b"-").replace(b"/", b"_")
    if len(text) == 16 and set(text) <= _HEXADECIMAL:  # an id, as a number
        number = int(text, 16)
        yield str(number).encode()
        yield from (number.to_bytes(8, order) for order in ("little", "big"))
    if ":" in text or text.count(".") == 3:
        try:
            address = ip_address(text)
        except ValueError:
            return
        # As it lies in a packet; of what stands before an IPv4 address there as much as is told from nothing.
        yield address.packed if address.version == 6 else b"\0\0\xff\xff" + address.packed
