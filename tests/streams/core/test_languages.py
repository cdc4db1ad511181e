"""The visitor's languages: which are accepted, which one is stored, and the country that they tell of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.privacy import CountryByLanguage
from streams.enrich import countries, languages


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("de-DE,de;q=0.9,en;q=0.7", "de-de de en"),
        ("en;q=0.5, de ;q=0.9,fr", "fr de en"),
        ("fr;q=0, en;q=0.001", "en"),
        ("fr;q=2;x=1,en;level=1;q=0.9", "fr en"),
        (" (comment) fr", "fr"),
        ("fr_CA.UTF-8", "fr-ca"),
        ("*, C, é, " + "x" * 9, "c"),
        ("", ""),
        ("," * 300 + "en", ""),  # beyond what is looked at
    ],
)
def test_accepted_languages_by_preference(text: str, tags: str) -> None:
    assert languages.accepted(text) == tuple(tags.split())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("EN", "en"),
        ("de-DE,de;q=0.9", "de-de"),
        ("zh-Hant-TW", "zh-tw"),
        ("zh-Hans", "zh"),
        ("es-419", "es-419"),
        ("iw-IL", "he-il"),
        ("en-u-ca-buddhist", "en"),  # a calendar, not Canada
        ("de-1996", "de"),
        ("sl-rozaj-biske", "sl"),
        ("xx-yy,jo-smith,fr", "fr"),  # nothing that a visitor writes there is stored
        ("en-zz", "en"),
        ("x-en", ""),
        ("", ""),
    ],
)
def test_the_language_that_is_stored_exists(text: str, expected: str) -> None:
    assert languages.best(languages.accepted(text)) == expected


@given(st.text(st.sampled_from("abdenrxz09-_,;=q. (\\)é"), max_size=40))
def test_whatever_the_header_holds_the_language_is_of_the_lists(text: str) -> None:
    language, dash, region = languages.best(languages.accepted(text)).partition("-")
    assert language in languages.LANGUAGES | {""}
    assert region in languages.REGIONS if dash else not region


@pytest.mark.parametrize(
    ("text", "by_region", "by_language"),
    [
        ("fr,en-us", "us", "fr"),
        ("en-GB,en", "gb", "gb"),
        ("en", "", ""),
        ("zh-hant-tw", "tw", "tw"),
        ("es-419,ja", "", "jp"),
        ("", "", ""),
    ],
)
def test_countries(text: str, by_region: str, by_language: str) -> None:
    tags = languages.accepted(text)
    found = {rule: languages.country(tags, rule) for rule in CountryByLanguage}
    assert found == {"never": "", "region": by_region, "language": by_language}


def test_the_lists_hold_codes_that_exist() -> None:
    assert len(countries.CODES) == 249
    assert set(countries.HOMES.values()) <= countries.CODES
    assert set(countries.HOMES) <= languages.LANGUAGES
    assert len([code for code in languages.LANGUAGES if len(code) == 2]) == 183
