"""Texts as sites send them, made by seed: values of persons in many contexts and encodings, and what only looks alike.

A sample says where its value lies and of which kind it is. Nothing here imports the detectors; kinds are their names.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple
from urllib.parse import quote, quote_plus

from tests.streams.anonymize.detect import people
from tests.streams.anonymize.detect.lookalikes import LOOKALIKES, WORDS


class Sample(NamedTuple):
    """A text; in [start, end) the value of a kind, "" where there is none. `shape`: how it was made."""

    text: str
    kind: str
    start: int
    end: int
    shape: str


SENTENCES = (
    "{}",
    "Contact {}",
    "{} - My account",
    "Bestellung von {} wurde versandt",
    "Recherche : {}",
    "Resultados para {} en la tienda",
    "Поиск: {}",
    "検索 {} の結果",
    "newsletter: {}, step 2",
    "Form | submit | {}",
    "({})",
    '"{}"',
    "TypeError: cannot read {} of undefined",
)
QUERIES = (
    "/search?q={}",
    "/contact?value={}&step=2",
    "/de/suche?page=1&text={}",
    "/thanks/{}",
    "/confirm?next=done&x={}#top",
    "/#/result?input={}",
    "/a/b.html#{}",
    "https://shop.example/find?query={}&sort=price",
)


def percent(text: str) -> str:
    """As encodeURIComponent."""
    return quote(text, safe="~()*!.'-_")


def every_byte(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


def entities(text: str) -> str:
    return "".join(f"&#{ord(c)};" if c in "@.:+-" else c for c in text)


def wide(text: str) -> str:
    return "".join(chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in text)


def encoded64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


# By name: how a value is written, and whether it then stands in a query.
ENCODINGS: dict[str, tuple[Callable[[str], str], bool]] = {
    "plain": (lambda text: text, False),
    "percent": (percent, True),
    "plus": (lambda text: quote_plus(text, safe=""), True),
    "percent lower": (lambda text: percent(text).lower() if "%" in percent(text) else every_byte(text), True),
    "percent twice": (lambda text: percent(percent(text)), True),
    "every byte": (every_byte, True),
    "entities": (entities, False),
    "full width": (wide, False),
    "base64": (lambda text: percent(encoded64(text)), True),
    "base64 url": (lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="), True),
}
_WEIGHTS = (10, 6, 3, 0, 3, 1, 1, 1, 1, 1)


def placed(r: Random, kind: str, before: str, value: str) -> Sample:
    """A value somewhere in a text, after the words that say what it is."""
    name = r.choices(list(ENCODINGS), _WEIGHTS)[0]
    if "base64" in name and (before or len(value) < 9):
        name = "percent"
    if before.endswith(("=", "/")):
        name = name if name in ("plus", "percent lower", "percent twice", "every byte") else "percent"
    write, in_query = ENCODINGS[name]
    if before.endswith("="):
        frame, lead = "/form?a=1&{}&b=2", before
    elif before.endswith("/"):
        frame, lead = "{}", before
    elif in_query:
        frame, lead = r.choice(QUERIES), write(before) if before else ""
    else:
        frame, lead = r.choice(SENTENCES), before
    text = write(value)
    start = frame.index("{}") + len(lead)
    return Sample(frame.replace("{}", lead + text), kind, start, start + len(text), f"{name} in {frame}")


def nested(r: Random, sample: Sample) -> Sample:
    """The same as a URL in a parameter of another."""
    front = r.choice(["https://shop.example/login?back=", "/out?to=https%3A%2F%2Fa.example", "/r?u="])
    text, value, after = sample.text[: sample.start], sample.text[sample.start : sample.end], sample.text[sample.end :]
    start = len(front) + len(percent(text))
    whole = front + percent(text) + percent(value) + percent(after) + "&x=1"
    return Sample(whole, sample.kind, start, start + len(percent(value)), "nested " + sample.shape)


KINDS: dict[str, Callable[[Random], tuple[str, str]]] = {
    "email": lambda r: ("", people.email(r)),
    "phone": people.phone,
    "iban": lambda r: ("", people.iban(r)),
    "card": lambda r: ("", people.card(r)),
    "national_id": people.national_id,
    "token": people.token,
    "ip": lambda r: ("", people.ip(r)),
    "mac": lambda r: ("", people.mac(r)),
    "name": people.name,
}


def of_kind(r: Random, kind: str) -> Sample:
    """A sample with a value of this kind."""
    before, value = KINDS[kind](r)
    sample = placed(r, kind, before, value)
    if sample.text.startswith(("/", "https:")) and r.random() < 0.1 and "twice" not in sample.shape:
        return nested(r, sample)
    if kind == "name" and r.random() < 0.5:
        after = r.choice(["/", "/orders", "/edit?tab=2", "?page=1", "#posts", ".html"])
        return sample._replace(text=sample.text + after)
    return sample


def ordinary(r: Random) -> Sample:
    """A sample without any."""
    shape, make = r.choice(LOOKALIKES)
    value = make(r)
    way = r.random()
    if value.startswith(("/", "http")) or way < 0.25:
        text = value
    elif way < 0.6:
        text = r.choice(SENTENCES).replace("{}", value)
    elif way < 0.7:
        text = " ".join([*r.choices(WORDS, k=2), value, *r.choices(WORDS, k=2)])
    else:
        text = r.choice(QUERIES).replace("{}", percent(value) if r.random() < 0.5 else quote_plus(value))
    return Sample(text, "", 0, 0, shape)


def samples(seed: int, each: int) -> Iterator[Sample]:
    """`each` samples of every kind, and twice as many in all without any."""
    r = Random(seed)
    for kind in KINDS:
        for _ in range(each):
            yield of_kind(r, kind)
    for _ in range(2 * each * len(KINDS)):
        yield ordinary(r)


Found = Sequence[tuple[int, int, str]]


@dataclass(frozen=True, slots=True)
class Score:
    """What was found of the values planted: recall and precision by kind, and the samples that went wrong."""

    planted: Counter[str]
    right: Counter[str]
    wrong: Counter[str]
    missed: list[Sample]
    mistaken: list[tuple[Sample, str]]

    def recall(self, kind: str) -> float:
        """The share of values of this kind that were found whole, and as what they are."""
        return self.right[kind] / self.planted[kind]

    def precision(self, kind: str) -> float:
        """The share of what was taken for this kind that is."""
        return self.right[kind] / max(1, self.right[kind] + self.wrong[kind])


def score(texts: Iterable[Sample], find: Callable[[str], Found]) -> Score:
    """How well `find` does; a value counts where it is covered from its first to its last character."""
    out = Score(Counter(), Counter(), Counter(), [], [])
    for sample in texts:
        found = find(sample.text)
        hit = [span for span in found if sample.kind and span[0] < sample.end and span[1] > sample.start]
        if sample.kind:
            out.planted[sample.kind] += 1
            good = [s for s in hit if s[0] <= sample.start and s[1] >= sample.end and s[2] == sample.kind]
            out.right[sample.kind] += bool(good)
            if not good:
                out.missed.append(sample)
        else:
            good = []
        for span in found:
            if span not in good:
                out.wrong[span[2]] += 1
                out.mistaken.append((sample, span[2]))
    return out
