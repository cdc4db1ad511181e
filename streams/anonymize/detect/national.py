"""Numbers that states give to people: by country, each with its check digits, or its rules where it has none.

Where a number is nothing but digits that many other numbers could be, a word must say what it is (`words`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from string import ascii_uppercase

from streams.anonymize.detect.digits import LOOK_BACK, after_plus, digits_of, ean, is_article, luhn, weighted

_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"  # Spain
_MARKS = "0123456789ABCDEFHJKLMNPRSTUVWXY"  # Finland
_ODD_DIGITS = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21)  # Italy, characters in odd places
_ODD = dict(zip("0123456789", _ODD_DIGITS, strict=True)) | dict(
    zip(ascii_uppercase, (*_ODD_DIGITS, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23), strict=True)
)
_CURP = "0123456789ABCDEFGHIJKLMNÑOPQRSTUVWXYZ"
# India: multiplication in the dihedral group of ten elements, and a permutation applied again at every place.
_PRODUCTS = [[5 * ((a > 4) != (b > 4)) + (a + b if a < 5 else a - b) % 5 for b in range(10)] for a in range(10)]
_PERMUTATION = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


def _dated(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True


def _birth(digits: str, order: str = "ymd") -> bool:
    """Whether six digits are a date of some century."""
    part = {name: int(digits[at : at + 2]) for at, name in zip((0, 2, 4), order, strict=True)}
    return any(_dated(century + part["y"], part["m"], part["d"]) for century in (1900, 2000))


def _germany(text: str) -> bool:
    """Identifikationsnummer: ISO 7064 mod 11,10, and one digit of the first ten that stands twice or thrice."""
    digits = digits_of(text)
    counts = sorted(Counter(digits[:10]).values(), reverse=True)
    if counts[0] not in (2, 3) or counts[1] != 1:
        return False
    product = 10
    for digit in digits[:10]:
        product = ((int(digit) + product) % 10 or 10) * 2 % 11
    return (11 - product) % 10 == int(digits[10])


def _france(text: str) -> bool:
    """Numéro d'inscription au répertoire: mod 97; 2A and 2B are Corsica's."""
    plain = text.replace(" ", "").replace("-", "").replace(".", "").upper().replace("2A", "19").replace("2B", "18")
    return plain.isdecimal() and 97 - int(plain[:13]) % 97 == int(plain[13:])


def _spain(text: str) -> bool:
    """DNI and NIE: a letter checks the number mod 23."""
    plain = re.sub(r"[^0-9A-Z]", "", text.upper())
    number = plain[:-1].translate(str.maketrans("XYZ", "012"))
    return _LETTERS[int(number) % 23] == plain[-1]


def _italy(text: str) -> bool:
    """Codice fiscale: the last letter checks the others."""
    plain = text.replace(" ", "").upper()
    total = sum(_ODD[char] for char in plain[:15:2])
    total += sum(int(char) if char.isdecimal() else ord(char) - ord("A") for char in plain[1:15:2])
    return chr(ord("A") + total % 26) == plain[15]


def _netherlands(text: str) -> bool:
    """Burgerservicenummer: the test of eleven."""
    digits = digits_of(text).zfill(9)
    return len(digits) == 9 and int(digits) > 0 and weighted(digits, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0


def _poland(text: str) -> bool:
    """PESEL: a date whose month tells the century, and a check digit."""
    month = int(text[2:4])
    century = 1900 if month < 20 else 2000
    born = _dated(century + int(text[:2]), month % 20, int(text[4:6])) and month < 40
    return born and weighted(text, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)) % 10 == 0


def _belgium(text: str) -> bool:
    """Rijksregisternummer: mod 97, of those born from 2000 on with a 2 in front; BIS numbers have later months."""
    digits = digits_of(text)
    if int(digits[2:4]) % 20 > 12 or int(digits[4:6]) > 31 or int(digits[6:9]) == 0:
        return False
    return int(digits[9:]) in (97 - int(digits[:9]) % 97, 97 - int("2" + digits[:9]) % 97)


def _sweden(text: str) -> bool:
    """Personnummer: a date, of coordination numbers with a day beyond 60, and Luhn's digit."""
    digits = digits_of(text)[-10:]
    day = int(digits[4:6])
    return _birth(f"{digits[:4]}{day - 60 if day > 60 else day:02d}") and luhn(digits)


def _finland(text: str) -> bool:
    """Henkilötunnus: mod 31."""
    return _birth(text[:6], "dmy") and _MARKS[int(text[:6] + text[7:10]) % 31] == text[10].upper()


def _norway(text: str) -> bool:
    """Fødselsnummer: two check digits mod 11; D numbers have later days."""
    digits = digits_of(text)
    day = int(digits[:2])
    born = _birth(f"{day - 40 if day > 40 else day:02d}{digits[2:6]}", "dmy")
    first = weighted(digits, (3, 7, 6, 1, 8, 9, 4, 5, 2, 1)) % 11
    return born and first == 0 and weighted(digits, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0


def _denmark(text: str) -> bool:
    """CPR-nummer: a date; since 2007 there is no check digit."""
    return _birth(digits_of(text)[:6], "dmy")


def _switzerland(text: str) -> bool:
    """AHV number: EAN-13 with the country's 756."""
    return ean(digits_of(text))


def _austria(text: str) -> bool:
    """Sozialversicherungsnummer: the fourth digit checks the others mod 11."""
    digits = digits_of(text)
    return weighted(digits, (3, 7, 9, 0, 5, 8, 4, 2, 1, 6)) % 11 == int(digits[3])


def _portugal(text: str) -> bool:
    """Número de identificação fiscal: mod 11."""
    return (11 - weighted(text, range(9, 1, -1)) % 11) % 11 % 10 == int(text[8])


def _ireland(text: str) -> bool:
    """Personal public service number: a letter checks mod 23."""
    plain = text.upper()
    extra = 9 * (ord(plain[8]) - ord("A") + 1) if len(plain) == 9 and plain[8] != "W" else 0
    return "WABCDEFGHIJKLMNOPQRSTUV"[(weighted(plain[:7], range(8, 1, -1)) + extra) % 23] == plain[7]


def _romania(text: str) -> bool:
    """Cod numeric personal: mod 11, a date and a county."""
    check = weighted(text[:12], (2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9)) % 11
    county = int(text[7:9])
    return (
        _birth(text[1:7])
        and (1 <= county <= 52 or county in (70, 80))
        and (check % 10 if check < 10 else 1) == int(text[12])
    )


def _czechia(text: str) -> bool:
    """Rodné číslo, Slovakia's too: mod 11; months of women are 50 later, of later years 20."""
    digits = digits_of(text)
    month = int(digits[2:4]) % 50
    born = _birth(f"{digits[:2]}{month - 20 if month > 20 else month:02d}{digits[4:6]}")
    return born and (int(digits) % 11 == 0 or (int(digits[:9]) % 11 == 10 and digits[9] == "0"))


def _estonia(text: str) -> bool:
    """Isikukood, Lithuania's asmens kodas too: a date, and a check digit mod 11 with second weights."""
    check = weighted(text, (1, 2, 3, 4, 5, 6, 7, 8, 9, 1)) % 11
    if check == 10:
        check = weighted(text, (3, 4, 5, 6, 7, 8, 9, 1, 2, 3)) % 11 % 10
    return _birth(text[1:7]) and check == int(text[10])


def _greece(text: str) -> bool:
    """AMKA: a date, Luhn's digit."""
    return _birth(text[:6], "dmy") and luhn(text)


def _korea(text: str) -> bool:
    """Resident registration number: a date; since 2020 there is no check digit."""
    return _birth(text[:6])


def _britain(text: str) -> bool:
    """National insurance number: no check digit, but prefixes that are never given."""
    prefix = text[:2].upper()
    return prefix not in ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ")


def _america(text: str) -> bool:
    """Social security number: no check digit, but areas, groups and serials that are never given."""
    digits = digits_of(text)
    area = int(digits[:3])
    return 0 < area < 900 and area != 666 and digits[3:5] != "00" and digits[5:] != "0000" and len(set(digits)) > 1


def _canada(text: str) -> bool:
    """Social insurance number: Luhn."""
    return luhn(digits_of(text))


def _brazil(text: str) -> bool:
    """CPF: two check digits mod 11."""
    digits = digits_of(text)
    for last in (9, 10):
        if weighted(digits[:last], range(last + 1, 1, -1)) * 10 % 11 % 10 != int(digits[last]):
            return False
    return len(set(digits)) > 1


def _mexico(text: str) -> bool:
    """CURP: the last digit checks the others."""
    plain = text.upper()
    total = sum(_CURP.index(char) * (18 - at) for at, char in enumerate(plain[:17]))
    return _birth(plain[4:10]) and (10 - total % 10) % 10 == int(plain[17])


def _india(text: str) -> bool:
    """Aadhaar: Verhoeff's digit."""
    check = 0
    for at, char in enumerate(reversed(digits_of(text))):
        digit = int(char)
        for _ in range(at % 8):
            digit = _PERMUTATION[digit]
        check = _PRODUCTS[check][digit]
    return check == 0


def _china(text: str) -> bool:
    """Resident identity number: ISO 7064 mod 11-2, and a date."""
    total = weighted(text[:17], [pow(2, at, 11) for at in range(17, 0, -1)])
    born = _dated(int(text[6:10]), int(text[10:12]), int(text[12:14])) and text[6:8] in ("19", "20")
    return born and "10X98765432"[total % 11] == text[17].upper()


def _south_africa(text: str) -> bool:
    """Identity number: a date, citizenship, Luhn's digit."""
    return _birth(text[:6]) and text[10] in "012" and text[11] in "89" and luhn(text)


def _turkey(text: str) -> bool:
    """T.C. kimlik numarası: two check digits."""
    digits = [int(char) for char in text]
    tenth = (7 * sum(digits[0:9:2]) - sum(digits[1:8:2])) % 10
    return text[0] != "0" and tenth == digits[9] and sum(digits[:10]) % 10 == digits[10]


@dataclass(frozen=True, slots=True)
class Number:
    """The numbers of one kind: what they look like, what is true of them, and words one of which must stand before.

    `digits`: the fewest that they have in a row without a letter between.
    """

    country: str
    digits: int
    pattern: re.Pattern[str]
    valid: Callable[[str], bool]
    words: re.Pattern[str] | None = None


def _number(country: str, digits: int, pattern: str, valid: Callable[[str], bool], words: str = "") -> Number:
    after = r"(?![A-Za-z0-9])" if words else r"(?![A-Za-z0-9_]|[.,-][A-Za-z0-9_])"
    told = re.compile(rf"(?<![A-Za-z\[])(?:{words})[^0-9\[\]]{{0,24}}$", re.IGNORECASE) if words else None
    return Number(country, digits, re.compile(f"(?:{pattern}){after}", re.IGNORECASE), valid, told)


_rows = re.compile(r"[0-9](?:[^A-Za-z0-9]{0,3}[0-9]){5,}").findall
_parted = re.compile(r"(?:[A-Za-z0-9_]|[A-Za-z0-9_][.-]|[0-9],)$").search


NUMBERS = (
    _number("DE", 11, r"[1-9][0-9]{10}|[1-9][0-9](?: [0-9]{3}){3}", _germany),
    _number(
        "FR",
        6,
        r"[1278][ .-]?[0-9]{2}[ .-]?[0-9]{2}[ .-]?(?:[0-9]{2}|2[AB])(?:[ .-]?[0-9]{3}){2}[ .-]?[0-9]{2}",
        _france,
    ),
    _number("ES", 7, r"(?:[0-9]{8}|[0-9]{2}\.[0-9]{3}\.[0-9]{3}|[XYZ][ -]?[0-9]{7})[ -]?[A-HJ-NP-TV-Z]", _spain),
    _number("IT", 0, r"[A-Z]{3} ?[A-Z]{3} ?[0-9]{2}[A-EHLMPR-T][0-9]{2} ?[A-Z][0-9]{3} ?[A-Z]", _italy),
    _number(
        "NL",
        8,
        r"[0-9]{8,9}|[0-9]{4}\.[0-9]{2}\.[0-9]{3}|[0-9]{3}(?:[ .][0-9]{3}){2}",
        _netherlands,
        "bsn|burgerservice|sofi",
    ),
    _number("PL", 11, r"[0-9]{11}", _poland),
    _number(
        "BE",
        11,
        r"[0-9]{11}|[0-9]{2}\.[0-9]{2}\.[0-9]{2}-[0-9]{3}\.[0-9]{2}|[0-9]{6}[ -][0-9]{3}[ .-]?[0-9]{2}",
        _belgium,
    ),
    _number("SE", 10, r"(?:19|20)?[0-9]{6}-[0-9]{4}", _sweden),
    _number("SE", 10, r"(?:19|20)?[0-9]{10}", _sweden, "personn|personnummer|pnr"),
    _number("FI", 6, r"[0-9]{6}[A-FU-Y-][0-9]{3}[0-9A-FHJ-NPR-Y]", _finland),
    _number("NO", 11, r"[0-9]{6} ?[0-9]{5}", _norway),
    _number("DK", 10, r"[0-9]{6}-?[0-9]{4}", _denmark, "cpr|personnummer"),
    _number("CH", 13, r"756[.]?[0-9]{4}[.]?[0-9]{4}[.]?[0-9]{2}", _switzerland),
    _number("AT", 10, r"[0-9]{4} ?[0-9]{6}", _austria, "sv-?n|svnr|sozialvers|versicherungsn"),
    _number("PT", 9, r"[0-9]{9}", _portugal, "nif|contribuinte"),
    _number("IE", 7, r"[0-9]{7}(?-i:[A-W][A-IW]?)", _ireland),
    _number("IE", 7, r"[0-9]{7}[A-W][A-IW]?", _ireland, "pps"),
    _number("RO", 13, r"[1-8][0-9]{12}", _romania),
    _number("CZ", 10, r"[0-9]{6}/[0-9]{4}", _czechia),
    _number("EE", 11, r"[1-6][0-9]{10}", _estonia),
    _number("GR", 11, r"[0-9]{11}", _greece),
    _number("KR", 13, r"[0-9]{6}-[1-8][0-9]{6}", _korea),
    _number("CZ", 10, r"[0-9]{10}", _czechia, "rodn|rč"),
    _number(
        "GB",
        6,
        r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z](?:[0-9]{6}|(?:[ -][0-9]{2}){3}|[0-9]{2} [0-9]{2} [0-9]{2})[ -]?[A-D]",
        _britain,
    ),
    _number("US", 9, r"[0-9]{3}([ -])[0-9]{2}\1[0-9]{4}", _america),
    _number("US", 9, r"[0-9]{9}", _america, "ssn|social"),
    _number("CA", 9, r"[0-9]{3}([ -]?)[0-9]{3}\1[0-9]{3}", _canada, "sin|nas|social"),
    _number("BR", 11, r"[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}", _brazil),
    _number("BR", 11, r"[0-9]{11}", _brazil, "cpf"),
    _number("MX", 6, r"[A-Z]{4}[0-9]{6}[HMX][A-Z]{5}[0-9A-Z][0-9]", _mexico),
    _number("IN", 12, r"[2-9][0-9]{3}([ -])[0-9]{4}\1[0-9]{4}", _india),
    _number("IN", 12, r"[2-9][0-9]{11}", _india, "aadhaar|aadhar|uidai"),
    _number("CN", 17, r"[1-8][0-9]{16}[0-9X]", _china),
    _number("ZA", 13, r"[0-9]{13}", _south_africa),
    _number("TR", 11, r"[1-9][0-9]{10}", _turkey, "tckn|kimlik|tc|vatandaş"),
)


MOST_DIGITS = max(number.digits for number in NUMBERS)
_OF_DIGITS = [[number for number in NUMBERS if number.digits <= count] for count in range(MOST_DIGITS + 1)]


def find(text: str) -> Iterator[tuple[int, int]]:
    """Where they begin and end."""
    plain = text.replace("+", " ")  # as a query writes it
    count = max((len(digits_of(row)) for row in _rows(plain)), default=0)
    for number in _OF_DIGITS[min(count, MOST_DIGITS)]:
        for match in number.pattern.finditer(plain):
            stands = _told if number.words else _alone
            if stands(number, text, plain, match) and number.valid(match[0]) and not is_article(text, match.start()):
                yield match.span()


def _told(number: Number, text: str, plain: str, match: re.Match[str]) -> bool:
    """Whether a word before it says what it is."""
    start = match.start()
    within = text[start - 1 : start].isascii() and text[start - 1 : start].isalnum()
    assert number.words is not None
    return not within and number.words.search(plain, max(0, start - LOOK_BACK), start) is not None


def _alone(_number: Number, text: str, plain: str, match: re.Match[str]) -> bool:
    """Whether it is a part of nothing longer: a word, a row of groups, an international telephone number."""
    start = match.start()
    return (
        not after_plus(text, start)
        and not _parted(plain, max(0, start - 2), start)
        and not _longer(plain, *match.span())
    )


def _longer(text: str, start: int, end: int) -> bool:
    """Whether groups of digits are a part of a row of more of them."""
    grouped = " " in text[start:end]
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    return grouped and ((before[:1].isdecimal() and before[1:] == " ") or (after[:1] == " " and after[1:].isdecimal()))
