"""Values of persons, made by seed in the shapes of many countries: what the corpus plants in texts.

Written from the public rules of each number, not from the detectors; nothing here imports them.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
from collections.abc import Callable
from random import Random
from string import ascii_uppercase, digits

LOWER = ascii_uppercase.lower()
FIRST = [
    "jane",
    "john",
    "maria",
    "ahmed",
    "yuki",
    "olga",
    "pierre",
    "müller",
    "sofía",
    "łukasz",
    "björn",
    "aoife",
    "priya",
    "chen",
    "fatima",
    "giovanni",
    "zoë",
    "ivan",
    "josé",
    "anna",
    "mehmet",
    "noor",
    "thabo",
    "leilani",
    "søren",
    "élise",
    "dmitri",
    "mónica",
    "oluwaseun",
    "hiroshi",
]
LAST = [
    "doe",
    "smith",
    "garcía",
    "rossi",
    "müller",
    "nowak",
    "ivanova",
    "tanaka",
    "nguyen",
    "okafor",
    "silva",
    "jensen",
    "virtanen",
    "dubois",
    "kowalski",
    "o'brien",
    "yılmaz",
    "papadopoulos",
    "horvat",
    "kim",
    "haddad",
    "van-dijk",
    "andersson",
    "costa",
    "novák",
]
ASCII_FIRST = [name for name in FIRST if name.isascii()]
ASCII_LAST = [name for name in LAST if name.isascii() and name.isalpha()]
HOSTS = [
    "example.com",
    "mail.example.org",
    "gmail.com",
    "web.de",
    "t-online.de",
    "orange.fr",
    "libero.it",
    "wp.pl",
    "yahoo.co.jp",
    "uol.com.br",
    "seznam.cz",
    "bbc.co.uk",
    "uni-bonn.de",
    "protonmail.ch",
    "xs4all.nl",
    "corp.example.museum",
    "a.io",
    "naver.com",
    "students.ox.ac.uk",
]


def number(r: Random, count: int, first: str = digits) -> str:
    """So many digits, the first of these."""
    return r.choice(first) + "".join(r.choices(digits, k=count - 1))


def letters(r: Random, count: int, alphabet: str = ascii_uppercase) -> str:
    return "".join(r.choices(alphabet, k=count))


def email(r: Random) -> str:
    first, last = r.choice(ASCII_FIRST), r.choice(ASCII_LAST)
    local = r.choice(
        [
            f"{first}.{last}",
            f"{first}{r.randint(1, 99)}",
            f"{first[0]}{last}",
            f"{first}_{last}",
            f"{first}-{last}",
            f"{first}+{r.choice(['news', 'shop', '2024'])}",
            f"{first}.{last}.{r.randint(1950, 2010)}",
            first,
        ]
    )
    host = r.choice(HOSTS)
    if r.random() < 0.06:
        local, host = r.choice(FIRST), r.choice(["bücher.example", "пример.рф", "例え.jp", "xn--bcher-kva.example"])
    found = f"{local}@{host}"
    return found.upper() if r.random() < 0.08 else found.title() if r.random() < 0.05 else found


# International and, where nothing else looks so, national forms; # stands for a digit.
PHONES = """
    DE|+49 1512 #######|01512 #######|0151/2#######|+49 30 ######|030 ######|(030) 12 34 ##|+49 (0)89 23#####
    US|+1 201-555-01##|(201) 555-01##|201-555-01##|212.555.01##|1-800-555-01##
    CA|+1 506-234-####|(506) 234-####
    GB|+44 7400 ######|07400 ######|+44 20 7946 0###|020 7946 0###|0121 234 ####|+44 (0)20 7946 0###
    FR|+33 6 12 34 ## ##|06 12 34 ## ##|01.23.45.##.##|+33 1 23 45 ## ##|01-23-45-##-##
    ES|+34 612 34 ## ##|612 34 ## ##|912 345 6##
    IT|+39 312 345 ####|312 345 ####|+39 02 1234 ####|02 1234 ####
    NL|+31 6 1234####|06 1234####|06-1234####|020 123 ####
    BE|+32 470 12 ## ##|0470 12 ## ##|012 34 ## ##
    AT|+43 664 123###|0664 123###|+43 1 2345#####
    CH|+41 78 123 ## ##|078 123 ## ##|+41 44 668 ## ##
    PL|+48 512 345 ###|512 345 ###|512-345-###|12 345 ## ##
    CZ|+420 601 123 ###|601 123 ###
    SK|+421 912 123 ###|0912 123 ###
    HU|+36 20 123 ####|06 20 123 ####|(06 1) 234 ####
    RO|+40 712 034 ###|0712 034 ###|021 123 ####
    BG|+359 43 012 ###|043 012 ###
    GR|+30 691 234 ####|691 234 ####|21 2345 ####
    PT|+351 912 345 ###|912 345 ###|21 234 ####
    DK|+45 34 41 ## ##
    SE|+46 70 123 ## ##|070-123 ## ##|08-12 34 ##
    NO|+47 40 61 ## ##
    FI|+358 41 23#####|041 23#####
    IE|+353 85 012 ####|085 012 ####
    UA|+380 50 123 ####|050 123 ####
    RU|+7 912 345-##-##|8 (912) 345-##-##|+7 (495) 123-##-##
    TR|+90 501 234 ## ##|0501 234 ## ##|(0212) 345 ## ##
    IL|+972 50-234-####|050-234-####
    AE|+971 50 123 ####|050 123 ####
    SA|+966 51 234 ####|051 234 ####
    EG|+20 10 01######|010 01######
    ZA|+27 71 123 ####|071 123 ####
    NG|+234 802 123 ####|0802 123 ####
    KE|+254 712 123###|0712 123###
    IN|+91 81234 5####|081234 5####|98765 4321#
    PK|+92 301 23#####|0301 23#####|(021) 23######
    CN|+86 131 2345 ####|131 2345 ####|010 1234 ####
    TW|+886 912 345 ###|0912 345 ###
    HK|+852 5123 ####
    JP|+81 90-1234-####|090-1234-####|03-1234-####
    KR|+82 10-2000-####|010-2000-####|02-212-3###
    SG|+65 8123 ####
    MY|+60 12-345 ####|012-345 ####
    TH|+66 81 234 ####|081 234 ####
    VN|+84 912 345 ###|0912 345 ###
    ID|+62 812-345-###|0812-345-###|(021) 83#####
    PH|+63 905 123 ####|0905 123 ####|(02) 3234 ####
    AU|+61 412 345 ###|0412 345 ###|(02) 1234 ####
    NZ|+64 21 123 ####|021 123 ####
    BR|+55 11 96123-####|(11) 96123-####|(11) 2345-####
    MX|+52 222 123 ####|222 123 ####
    AR|+54 9 11 2345-####|011 2345-####
    CL|+56 2 2123 ####|(2) 2123 ####
    CO|+57 321 123####|(601) 23#####
    IS|+354 611 1###
    EE|+372 5123 4###
    LV|+371 21 234 ###
    LT|+370 612 34###
    HR|+385 92 123 ####|092 123 ####
    RS|+381 60 123####|060 123####
"""
_PHONES = [line.strip().split("|")[1:] for line in PHONES.strip().splitlines()]
TOLD = ("Tel. ", "tel: ", "Phone: ", "Téléphone : ", "mobile ", "Handy: ", "fax ", "WhatsApp ", "Тел. ", "电话：")
AMBIGUOUS = ("34 41 ## ##", "5123 ####", "611 1###", "0171123####", "5551###", "612345###", "40612###", "321 123####")


def phone(r: Random) -> tuple[str, str]:
    """A word that says what it is, where it needs one, and the number."""
    if r.random() < 0.12:
        return r.choice(TOLD), _filled(r, r.choice(AMBIGUOUS))
    forms = r.choice(_PHONES)
    form = forms[0] if r.random() < 0.5 else r.choice(forms)
    found = _filled(r, form)
    if form[0] == "+" and "(" not in form:
        way = r.random()
        if way < 0.2:
            found = "+" + "".join(filter(str.isdecimal, found))
        elif way < 0.3:
            found = "00" + found[1:]
        elif way < 0.38:
            found = found.replace(" ", "-")
        elif way < 0.44:
            found = found.replace(" ", ".").replace("-", ".")
    return "", found


def _filled(r: Random, form: str) -> str:
    return "".join(r.choice(digits) if char == "#" else char for char in form)


# Basic bank account numbers by country: a letters, n digits, c either (ISO 13616 registry).
_ibans = [
    "AT",
    "n16",
    "BE",
    "n12",
    "BG",
    "a4n6c8",
    "CH",
    "n5c12",
    "CY",
    "n8c16",
    "CZ",
    "n20",
    "DE",
    "n18",
    "DK",
    "n14",
    "EE",
    "n16",
    "ES",
    "n20",
    "FI",
    "n14",
    "FR",
    "n10c11n2",
    "GB",
    "a4n14",
    "GR",
    "n7c16",
    "HR",
    "n17",
    "HU",
    "n24",
    "IE",
    "a4n14",
    "IL",
    "n19",
    "IS",
    "n22",
    "IT",
    "a1n10c12",
    "LT",
    "n16",
    "LU",
    "n3c13",
    "LV",
    "a4c13",
    "MT",
    "a4n5c18",
    "NL",
    "a4n10",
    "NO",
    "n11",
    "PL",
    "n24",
    "PT",
    "n21",
    "RO",
    "a4c16",
    "SA",
    "n2c18",
    "SE",
    "n20",
    "SI",
    "n15",
    "SK",
    "n20",
    "TR",
    "n6c16",
    "AE",
    "n19",
    "UA",
    "n6c19",
    "BR",
    "n23a1c1",
]
IBANS = list(zip(_ibans[::2], _ibans[1::2], strict=True))


def iban(r: Random) -> str:
    country, form = r.choice(IBANS)
    alphabets = {"a": ascii_uppercase, "n": digits, "c": ascii_uppercase + 8 * digits}
    body = "".join(letters(r, int(count), alphabets[kind]) for kind, count in re.findall(r"([anc])([0-9]+)", form))
    value = int("".join(str(int(char, 36)) for char in f"{body}{country}00"))
    found = f"{country}{98 - value % 97:02d}{body}"
    way = r.random()
    if way < 0.45:
        mark = " " if way < 0.4 else "-"
        found = mark.join(found[at : at + 4] for at in range(0, len(found), 4))
    return found.lower() if r.random() < 0.1 else found


def _luhn(body: str) -> str:
    total = 0
    for place, char in enumerate(reversed(body)):
        value = int(char) * (2 if place % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return str(-total % 10)


CARDS = (
    *(("4", 16),) * 4,
    *((str(prefix), 16) for prefix in (51, 52, 53, 54, 55, 2221, 2500, 2720)),
    *(("34", 15), ("37", 15), ("6011", 16), ("65", 16), ("644", 16), ("3530", 16), ("3566", 16), ("36", 14)),
    *(("38", 14), ("62", 16), ("62", 19), ("6759", 16), ("6304", 18), ("2200", 16), ("4", 19)),
)


def card(r: Random) -> str:
    prefix, length = r.choice(CARDS)
    body = prefix + "".join(r.choices(digits, k=length - len(prefix) - 1))
    found = body + _luhn(body)
    if r.random() < 0.5 or length in (18, 19):
        return found
    groups = {16: (4, 4, 4, 4), 15: (4, 6, 5), 14: (4, 6, 4)}[length]
    parts, at = [], 0
    for size in groups:
        parts.append(found[at : at + size])
        at += size
    return r.choice(" -").join(parts)


def _day(r: Random) -> tuple[int, int, int]:
    return r.randint(1935, 2015), r.randint(1, 12), r.randint(1, 28)


def _search(r: Random, make: Callable[[], str], good: Callable[[str], bool]) -> str:
    while not good(found := make()):
        pass
    return found


def _weights(text: str, weights: tuple[int, ...]) -> int:
    return sum(int(a) * b for a, b in zip(text, weights, strict=False))


def _de(r: Random) -> str:
    twice, missing = r.sample(digits, 2)
    body = [*list(set(digits) - {missing}), twice]
    body.sort()
    r.shuffle(body)
    while body[0] == "0":
        r.shuffle(body)
    rest = 0
    for char in body:
        rest = (int(char) + rest) % 10 or 10
        rest = rest * 2 % 11
    found = "".join(body) + str((11 - rest) % 10)
    return f"{found[:2]} {found[2:5]} {found[5:8]} {found[8:]}" if r.random() < 0.4 else found


def _fr(r: Random) -> str:
    year, month, _ = _day(r)
    place = r.choice(["75", "13", "69", "33", "99", "2A", "2B"])
    body = f"{r.choice('12')}{year % 100:02d}{month:02d}{place}{r.randint(1, 900):03d}{r.randint(1, 999):03d}"
    key = 97 - int(body.replace("2A", "19").replace("2B", "18")) % 97
    if r.random() < 0.5:
        return f"{body}{key:02d}"
    cuts = (0, 1, 3, 5, 7, 10, 13)
    return " ".join([*(body[a:b] for a, b in itertools.pairwise(cuts)), f"{key:02d}"])


def _es(r: Random) -> str:
    order = "TRWAGMYFPDXBNJZSQVHLCKE"
    if r.random() < 0.4:
        front, body = r.choice("XYZ"), number(r, 7)
        return f"{front}{body}{order[int(str('XYZ'.index(front)) + body) % 23]}"
    body = number(r, 8)
    letter = order[int(body) % 23]
    return r.choice([f"{body}{letter}", f"{body}-{letter}", f"{body[:2]}.{body[2:5]}.{body[5:]}-{letter}"])


_IT_ODD = dict(zip("BCDEFGHIJ", (0, 5, 7, 9, 13, 15, 17, 19, 21), strict=True))
_IT_ODD |= {"A": 1, "K": 2, "L": 4, "M": 18, "N": 20, "O": 11, "P": 3, "Q": 6, "R": 8, "S": 12, "T": 14, "U": 16}
_IT_ODD |= {"V": 10, "W": 22, "X": 25, "Y": 24, "Z": 23}
_IT_ODD |= {digit: _IT_ODD[ascii_uppercase[int(digit)]] for digit in digits}


def _it(r: Random) -> str:
    year, _, day = _day(r)
    day += 40 * r.randint(0, 1)
    month = r.choice("ABCDEHLMPRST")
    body = f"{letters(r, 6, 'BCDFGLMNPRSTV')}{year % 100:02d}{month}{day:02d}{r.choice('ABCDEFGHIL')}{number(r, 3)}"
    total = sum(_IT_ODD[c] if at % 2 == 0 else (int(c) if c.isdecimal() else ord(c) - 65) for at, c in enumerate(body))
    found = body + ascii_uppercase[total % 26]
    return found.lower() if r.random() < 0.15 else found


def _pl(r: Random) -> str:
    year, month, day = _day(r)
    body = f"{year % 100:02d}{month + (20 if year >= 2000 else 0):02d}{day:02d}{number(r, 4)}"
    return body + str(-_weights(body, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)) % 10)


def _be(r: Random) -> str:
    year, month, day = _day(r)
    body = f"{year % 100:02d}{month:02d}{day:02d}{r.randint(1, 997):03d}"
    check = 97 - int(("2" if year >= 2000 else "") + body) % 97
    if r.random() < 0.5:
        return f"{body}{check:02d}"
    return f"{body[:2]}.{body[2:4]}.{body[4:6]}-{body[6:]}.{check:02d}"


def _se(r: Random) -> str:
    year, month, day = _day(r)
    body = f"{year % 100:02d}{month:02d}{day:02d}{number(r, 3)}"
    return f"{year // 100 if r.random() < 0.4 else ''}{body[:6]}-{body[6:]}{_luhn(body)}"


def _fi(r: Random) -> str:
    year, month, day = _day(r)
    serial = f"{r.randint(2, 899):03d}"
    born = f"{day:02d}{month:02d}{year % 100:02d}"
    return f"{born}{'-' if year < 2000 else 'A'}{serial}{'0123456789ABCDEFHJKLMNPRSTUVWXY'[int(born + serial) % 31]}"


def _no(r: Random) -> str:
    while True:
        year, month, day = _day(r)
        body = f"{day:02d}{month:02d}{year % 100:02d}{number(r, 3)}"
        first = -_weights(body, (3, 7, 6, 1, 8, 9, 4, 5, 2)) % 11
        second = -_weights(f"{body}{first}", (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
        if first < 10 and second < 10:
            return f"{body}{first}{second}"


def _gb(r: Random) -> str:
    pairs = ("AB", "CE", "JG", "HR", "NA", "PX", "SE", "TW", "YZ", "WM")
    found = f"{r.choice(pairs)}{number(r, 6)}{r.choice('ABCD')}"
    return " ".join([found[:2], found[2:4], found[4:6], found[6:8], found[8]]) if r.random() < 0.5 else found


def _us(r: Random) -> str:
    area = _search(r, lambda: f"{r.randint(1, 899):03d}", lambda text: text != "666")
    return r.choice("- ").join([area, f"{r.randint(1, 99):02d}", f"{r.randint(1, 9999):04d}"])


def _ch(r: Random) -> str:
    body = "756" + number(r, 9)
    found = body + str(-_weights(body, (1, 3) * 6) % 10)
    return f"{found[:3]}.{found[3:7]}.{found[7:11]}.{found[11:]}" if r.random() < 0.7 else found


def _ie(r: Random) -> str:
    body = number(r, 7)
    return body + "WABCDEFGHIJKLMNOPQRSTUV"[_weights(body, (8, 7, 6, 5, 4, 3, 2)) % 23]


def _ro(r: Random) -> str:
    year, month, day = _day(r)
    front = r.choice("12") if year < 2000 else r.choice("56")
    body = f"{front}{year % 100:02d}{month:02d}{day:02d}{r.randint(1, 46):02d}{r.randint(1, 999):03d}"
    check = _weights(body, (2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9)) % 11
    return body + str(1 if check == 10 else check)


def _cz(r: Random) -> str:
    year, month, day = _day(r)
    born = f"{year % 100:02d}{month + 50 * r.randint(0, 1):02d}{day:02d}"
    serial = _search(r, lambda: number(r, 4), lambda text: int(born + text) % 11 == 0)
    return f"{born}/{serial}"


def _br(r: Random) -> str:
    body = number(r, 9)
    for _ in range(2):
        rest = sum(int(char) * weight for char, weight in zip(body, range(len(body) + 1, 1, -1), strict=True)) % 11
        body += str(0 if rest < 2 else 11 - rest)
    return f"{body[:3]}.{body[3:6]}.{body[6:9]}-{body[9:]}"


def _cn(r: Random) -> str:
    year, month, day = _day(r)
    body = f"{r.choice(['110101', '310104', '440305'])}{year}{month:02d}{day:02d}{number(r, 3)}"
    return body + "10X98765432"[_weights(body, (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)) % 11]


def _za(r: Random) -> str:
    year, month, day = _day(r)
    body = f"{year % 100:02d}{month:02d}{day:02d}{number(r, 4)}{r.choice('01')}8"
    return body + _luhn(body)


def _nl(r: Random) -> str:
    found = _search(r, lambda: number(r, 9, "123456789"), lambda t: _weights(t, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0)
    return found


def _ssn(r: Random) -> str:
    return _us(r).replace("-", "").replace(" ", "")


NATIONAL: dict[str, Callable[[Random], str]] = {
    **{"de": _de, "fr": _fr, "es": _es, "it": _it, "pl": _pl, "be": _be, "se": _se, "fi": _fi, "no": _no, "gb": _gb},
    **{"us": _us, "ch": _ch, "ie": _ie, "ro": _ro, "cz": _cz, "br": _br, "cn": _cn, "za": _za},
}
TOLD_NATIONAL: dict[str, tuple[tuple[str, ...], Callable[[Random], str]]] = {
    "nl": (("BSN ", "bsn: ", "burgerservicenummer "), _nl),
    "us": (("SSN ", "ssn=", "Social Security Number: "), _ssn),
}


def national_id(r: Random) -> tuple[str, str]:
    """A word that says what it is, where it needs one, and the number."""
    if r.random() < 0.12:
        words, make = TOLD_NATIONAL[r.choice(sorted(TOLD_NATIONAL))]
        return r.choice(words), make(r)
    return "", NATIONAL[r.choice(sorted(NATIONAL))](r)


def _random_text(r: Random, count: int, alphabet: str = ascii_uppercase + LOWER + digits) -> str:
    return "".join(r.choices(alphabet, k=count))


def token(r: Random) -> tuple[str, str]:
    """A word that says what it is, where it needs one, and the token."""
    way = r.randrange(7)
    if way == 0:
        parts = [
            json.dumps({"alg": "HS256", "typ": "JWT"}),
            json.dumps({"sub": number(r, 9), "iat": r.randint(1, 9**9)}),
        ]
        head = [base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts]
        return "", ".".join([*head, _random_text(r, 43)])
    if way in (1, 2):
        found = hashlib.sha256(r.randbytes(8)).hexdigest()[: r.choice([29, 30, 32, 32, 32, 32, 36])]
        return "", found.upper() if r.random() < 0.2 else found
    if way == 3:
        found = str(_uuid(r))
        return r.choice(["user=", "/users/", "session_id=", "customerId=", "visitor: ", "token="]), found
    if way == 4:
        return r.choice(["access_token=", "token=", "api_key=", "sessionid=", "secret="]), _random_text(
            r, r.randint(20, 64)
        )
    keys = [
        "sk_live_" + _random_text(r, 24),
        "AKIA" + _random_text(r, 16, ascii_uppercase + digits),
        "ghp_" + _random_text(r, 36),
        "glpat-" + _random_text(r, 20),
        f"xoxb-{number(r, 12)}-{number(r, 12)}-{_random_text(r, 24)}",
        "AIza" + _random_text(r, 35),
        "SG." + _random_text(r, 22) + "." + _random_text(r, 43),
        "npm_" + _random_text(r, 36),
        "hf_" + _random_text(r, 34),
        "sk-proj-" + _random_text(r, 48),
        "shpat_" + r.randbytes(16).hex(),
        "github_pat_" + _random_text(r, 22) + "_" + _random_text(r, 59),
    ]
    return "", r.choice(keys)


def _uuid(r: Random) -> str:
    text = r.randbytes(16).hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


def ip(r: Random) -> str:
    if r.random() < 0.6:
        first = r.choice([5, 10, 24, 31, 46, 62, 77, 81, 91, 109, 151, 172, 185, 192, 203, 217])
        return f"{first}.{r.randint(10, 254)}.{r.randint(0, 254)}.{r.randint(1, 254)}"
    groups = [f"{r.getrandbits(16):x}" for _ in range(7)]
    front = r.choice(["2001", "2a01", "2a02", "2003", "2600", "2409", "fe80"])
    way = r.randrange(3)
    if way == 0:
        return ":".join([front, *groups])
    if way == 1:
        return f"{front}:{groups[0]}:{groups[1]}::{groups[2]}"
    return f"{front}::{':'.join(groups[:4])}".upper()


def mac(r: Random) -> str:
    parts = [f"{byte:02x}" for byte in r.randbytes(6)]
    parts[r.randrange(6)] = r.choice(["a4", "5c", "f0", "be"])
    text = "".join(parts)
    return r.choice(
        [":".join(parts), ":".join(parts).upper(), "-".join(parts).upper(), f"{text[:4]}.{text[4:8]}.{text[8:]}"]
    )


SECTIONS = ("user", "users", "profile", "u", "member", "members", "account", "profil", "utilisateur", "usuario", "User")


def name(r: Random) -> tuple[str, str]:
    """The path before, and the name or id of a person in it."""
    first, last = r.choice(ASCII_FIRST), r.choice(ASCII_LAST)
    found = r.choice(
        [
            f"{first}.{last}",
            f"{first}-{last}",
            f"{first}{last}",
            f"{first}{r.randint(1, 99)}",
            f"{first[0]}{last}",
            f"{first}_{last}",
            f"{first.title()}{last.title()}",
            f"{first.title()} {last.title()}",
            f"{last.title()},{first.title()}",
            f"{first[0].upper()}.O'{last.title()}",
            number(r, r.randint(3, 9), "123456789"),
            first,
        ]
    )
    front = r.choice(["", "", "/en", "/shop", "/forum"])
    return (front + "/~" if r.random() < 0.15 else f"{front}/{r.choice(SECTIONS)}/"), found
