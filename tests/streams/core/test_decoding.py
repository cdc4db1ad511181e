"""What is decoded together is what is decoded alone."""

from __future__ import annotations

from random import Random

import pytest

from schemas.parameters import decode
from streams.anonymize.detect.screening import screened, screened_all
from streams.anonymize.detect.unfolding import unfolded, unfolded_all
from streams.decoding import decode_all

PIECES = (
    *("a", "Z", "9", "+", "%", "%2", "%25", "%2541", "%20", "%0A", "%zz", "%e4", "%C3%A4", "%E6%9D%B1", "%ED%A0%80"),
    *("&amp;", "&#64;", "%26%2364;", "\n", "\r", "é", "\u202e", "\uff21", "/", "?", "=", "@", "-", "user/jane", "4111"),
)


def made(seed: int) -> list[str]:
    random = Random(seed)
    return ["".join(random.choices(PIECES, k=random.randrange(12))) for _ in range(random.randrange(40))]


@pytest.mark.parametrize("seed", range(60))
def test_many_are_decoded_as_each_is(seed: int) -> None:
    texts = made(seed)
    if seed % 2:
        texts = [text for text in texts if text.isascii()]
    assert decode_all(texts) == [decode(text) for text in texts]


@pytest.mark.parametrize("seed", range(60))
def test_many_are_unfolded_and_screened_as_each_is(seed: int) -> None:
    texts = made(seed)
    plain = unfolded_all(texts)
    assert plain == [unfolded(text) for text in texts]
    assert screened_all(plain) == [screened(text) for text in plain]


def test_an_escape_does_not_go_on_in_the_next_text() -> None:
    assert decode_all(["a%", "41", "%4", "1", ""]) == ["a%", "41", "%4", "1", ""]
