"""The visitor's languages, the one that is stored, and the country that they tell of.

What is stored is `language` or `language-region` in lower case, and exists: a header may hold any text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable

from schemas.privacy import CountryByLanguage
from streams.enrich.countries import CODES, HOMES

LIMIT = 256  # characters that are looked at
# ISO 639-1, and those of three letters that browsers offer
_languages = """
    aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en eo es
    et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka kg ki
    kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no
    nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su sv sw ta te
    tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
    ast brx ceb chr ckb doi dsb fil fur gsw haw hmn hsb ilo kab kok lij mai mni nds sat scn sco szl tzm vec vls yue zgh
"""
LANGUAGES = frozenset(_languages.split())
REGIONS = CODES | {"001", "150", "419"}  # ISO 3166-1; the world, Europe and Latin America by UN M.49
_OLD = {"in": "id", "iw": "he", "ji": "yi"}  # codes that Java still sends
_NO_LANGUAGE = frozenset({"en-securid"})  # which Mozilla sent once

_escaped = re.compile(r"\\.").sub
_comment = re.compile(r"\([^()]*\)").sub
_blank = re.compile(r"\s+").sub
_tag = re.compile(r"[a-z]{1,8}(?:-[a-z0-9]{1,8})*").fullmatch
_parts = re.compile(r"([a-z]{2,3})(?:-[a-z]{3})*(?:-[a-z]{4})?(?:-([a-z]{2}|[0-9]{3}))?(?![a-z0-9])").match
_quality = re.compile(r"q=([01](?:\.[0-9]{0,3})?)").fullmatch


def accepted(text: str) -> tuple[str, ...]:
    """The tags of an Accept-Language header (RFC 9110, 12.5.4), the best first; `en_CA.UTF-8` is one too."""
    found = []
    text = _comment("", _blank("", _escaped("", text[:LIMIT].lower())))
    for entry in text.split(","):
        tag, *parameters = entry.split(";")
        tag = tag.partition(".")[0].replace("_", "-")
        given = next((match for parameter in parameters if (match := _quality(parameter))), None)
        quality = float(given[1]) if given else 1.0
        if quality and _tag(tag) and tag not in _NO_LANGUAGE:
            found.append((-quality, tag))
    return tuple(tag for _, tag in sorted(found, key=lambda entry: entry[0]))


def exists(tag: str) -> bool:
    """Whether language and region, where it has one, are known."""
    language, _, region = tag.partition("-")
    return language in LANGUAGES and (not region or region in REGIONS)


def best(tags: Iterable[str], known: Callable[[str], bool] = exists) -> str:
    """The first language with its region, else without it, that is known; "" where none is."""
    for language, region in _split(tags):
        for found in (f"{language}-{region}", language) if region else (language,):
            if known(found):
                return found
    return ""


def country(tags: Iterable[str], rule: CountryByLanguage, countries: Container[str] = CODES) -> str:
    """The country of the first language that tells one of `countries`, in lower case; "" where none does.

    Matomo's rule; its setting enable_language_to_country_guess is LANGUAGE here.
    """
    if rule is CountryByLanguage.NEVER:
        return ""
    for language, region in _split(tags):
        found = region or (HOMES.get(language, "") if rule is CountryByLanguage.LANGUAGE else "")
        if found in countries:
            return found
    return ""


def _split(tags: Iterable[str]) -> Iterable[tuple[str, str]]:
    """Language and region ("" where there is none) of each tag that has a language (RFC 5646, 2.1)."""
    for tag in tags:
        if found := _parts(tag):
            yield _OLD.get(found[1], found[1]), found[2] or ""
