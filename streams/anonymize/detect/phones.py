"""Telephone numbers: international ones (ITU-T E.164), and national ones in the groups in which people write them.

International: + or 00, the calling code of a country, 8 to 15 digits. National without a word such as "tel" before: a
trunk 0 or brackets around the area, or a grouping that nothing else has (North America's 3-3-4, China's 3-4-4, ...).
After such a word anything of 6 to 15 digits counts. Dates, times, prices, ranges and addresses of networks are none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from streams.anonymize.detect.digits import digits_of, ean

LEAST, MOST = 8, 15  # digits of an international number
GROUPS = 12  # groups of digits in a row that are looked at

# Assigned calling codes of countries and services (ITU Operational Bulletin).
_code = re.compile(
    r"1|7|2(?:[07]|1[12368]|[2-6][0-9]|9[01789])|3(?:[0-469]|5[0-9]|7[0-8]|8[0-35-79])|4(?:[0134-9]|2[013])"
    r"|5(?:[1-8]|0[0-9]|9[0-9])|6(?:[0-6]|7[0-9]|8[0-9]|9[0-2])|8(?:[1246]|0[08]|5[02356]|7[08]|8[0-368])"
    r"|9(?:[0-58]|6[0-8]|7[0-79]|9[2-8])"
).match
_TRUNK = re.compile(r"\(0\)")
_EXTENSION = r"(?: ?(?:x|ext\.?) ?[0-9]{1,6})?"
_international = re.compile(
    r"[+0](?:(?<=\+)(?<![A-Za-z0-9_].)|(?<![A-Za-z0-9_+.,-].)0)[ (]{0,2}"
    r"([1-9](?:(?:[ ./()-]{0,3}|\+[./()-]{0,2}|[).-]\+)[0-9]){6,14})"
    rf"{_EXTENSION}(?![A-Za-z0-9_])",
    re.IGNORECASE,
).finditer
_run = re.compile(
    r"[(0-9](?<![A-Za-z0-9_.,].)(?<![A-Za-z0-9_]-.)(?<![0-9][ /)].)[0-9]{0,9}\)?"
    rf"(?:[ ./()-]{{1,3}}[0-9]{{1,9}}\)?){{1,11}}({_EXTENSION})(?![A-Za-z0-9_]|[-.][A-Za-z0-9_]|[ /,][0-9])",
    re.IGNORECASE,
).finditer
_digits = re.compile(r"[0-9]+").findall
_groups = re.compile(r"[0-9]+").finditer
_gaps = re.compile(r"[0-9]+").split
_number = re.compile(
    r"[+(0-9](?<![A-Za-z0-9_].)(?:(?<=\+)\(?[0-9]|(?<=\()[0-9]|(?<=[0-9]))(?:[ ./()+-]{0,2}[0-9]){5,14}(?![A-Za-z0-9_])"
).finditer
_told = re.compile(
    r"(?<!\[)(?<![^\W\d_])([^\W\d_]{2,16})(?:[_ .-]{0,2}(?:no|nr|num|number|nummer|numero|número))?"
    r"(?:[^\w\[\]]|_){1,4}$",
    re.IGNORECASE,
).search
_words = """
    tel tél telephone téléphone telefon telefono teléfono telefone telefoon telefonnummer telefonnr phone phonenumber
    mobile mobil mob handy handynummer cell cellphone gsm fax telefax portable movil móvil celular cellulare whatsapp
    msisdn call callback sms rufnummer hotline rückruf тел телефон моб 電話 电话 手机 전화 هاتف טלפון τηλ τηλέφωνο
"""
_WORDS = frozenset(_words.split())
_LOOK_BACK = 40
_MONEY = r"€|\$|£|¥|₽|zł|kr|eur|usd|gbp|chf|pln|czk|rub|inr|jpy"
_money_after = re.compile(rf"[.,][0-9]|[ ]?(?:{_MONEY}|%|ml|mm|cm|km|kg|mb|gb|views|px)(?![a-z])", re.IGNORECASE).match
_money_before = re.compile(rf"(?:{_MONEY}) ?$", re.IGNORECASE).search
_year = re.compile(r"(?:19|20)[0-9]{2}").fullmatch
_day = re.compile(r"(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])(?:[0-9]{4}|[0-9]{6})?").fullmatch


def find(text: str) -> Iterator[tuple[int, int]]:
    """Where they begin and end."""
    many = len(digits_of(text)) >= LEAST
    for match in _international(text) if many else ():
        least = LEAST if match[0][0] == "+" else LEAST + 2
        if match[0].isdecimal():  # what has no mark at all is more often an article
            article = ean(match[0]) or text[match.start() - 1 : match.start()] == "/"
            least = MOST + 1 if article else LEAST + 3
        if _valid(match[1], least):
            yield match.span()
    plain = text.replace("+", " ")  # as a query writes it
    for match in _run(plain) if many else ():
        yield from _national(plain, match)
    for match in _number(text):
        told = _told(text, max(0, match.start() - _LOOK_BACK), match.start())
        if told and told[1].lower() in _WORDS:
            numbers = _digits(match[0])
            if not (_dated(numbers) or all(map(_year, numbers))):
                yield match.span()


def _valid(number: str, least: int) -> bool:
    digits = digits_of(_TRUNK.sub("", number))
    code = _code(_digits(number)[0])  # which nobody cuts in two
    if code is None or not least <= len(digits) <= MOST or _date(_digits(number)):
        return False
    if code[0] == "1":
        return len(digits) >= 11 and digits[1] in "23456789"
    if code[0] == "7" and len(digits) < 11:
        return False
    return digits[code.end()] != "0" or code[0] == "39"  # Italy keeps its 0


def _national(text: str, match: re.Match[str]) -> Iterator[tuple[int, int]]:
    """The numbers in a row of groups of digits; a second one begins after a wider gap only."""
    row = match.start(), match.start(1)
    groups = [(group[0], group.start(), group.end()) for group in _groups(text, *row)][:GROUPS]
    first = 0
    while first < len(groups) - 1:
        for last in range(len(groups), first + 1, -1):
            start, end = groups[first][1], groups[last - 1][2]
            if last < len(groups) and groups[last][1] - end < 2:
                continue  # it goes on
            if _shape(text, [group[0] for group in groups[first:last]], start, end):
                whole = match.end() if end == row[1] else end + (text[end : end + 1] == ")")
                yield start - (text[start - 1 : start] == "("), whole
                first = last - 1
                break
        first += 1
        while first < len(groups) and groups[first][1] - groups[first - 1][2] < 2:
            first += 1


def _shape(text: str, groups: Sequence[str], start: int, end: int) -> bool:
    """Whether groups of digits that stand in this place are written as telephone numbers are."""
    lengths = tuple(map(len, groups))
    total = sum(lengths)
    if not 8 <= total <= 13 or len(groups) > 6 or _dated(groups):
        return False
    gaps = [gap for gap in _gaps(text[start:end]) if gap]
    marks = set("".join(gaps))
    head = groups[0]
    if marks == {"."} and len(groups) == 4 and max(lengths) < 4:
        return False  # an address of a network
    if head[0] == "0":
        segments = gaps[0] == "/" == text[start - 1 : start]  # of a path
        return not segments and _trunk(head, lengths, gaps)
    if lengths[0] <= 3 and ("(" in marks or (")" in marks and text[start - 1 : start] == "(")):
        return total - lengths[0] >= 7 and not all(map(_year, groups[1:]))
    if lengths in ((3, 3, 4), (1, 3, 3, 4)):
        return head[0] in ("18" if lengths[0] == 1 else "23456789") and len(marks) <= 2
    if lengths in ((2, 4, 4), (2, 5, 4)) and gaps == [" ", "-"]:
        return True
    if len(marks) > 1 or marks == {"."} or (marks == {"/"} and len(groups) < 3):
        return False
    if _money_after(text, end) or _money_before(text, max(0, start - 5), start):
        return False
    if lengths == (3, 3, 3):
        return head[0] in "56789"
    if lengths == (3, 2, 2, 2):
        return head[0] in "6789"
    if lengths == (3, 4, 4):
        return head[0] == "1" and head[1] in "3456789"
    if lengths == (5, 5):
        return head[0] in "6789" and not (head.endswith("00") or groups[1].endswith("00"))
    if lengths == (4, 3, 3):
        return head[:2] == "69"
    if lengths == (3, 2, 3):
        return head[0] in "49" and marks == {" "}
    if lengths == (2, 4, 4):
        return not any(map(_year, groups[1:]))
    return lengths in ((2, 3, 2, 2), (2, 3, 4))


def _trunk(head: str, lengths: Sequence[int], gaps: Sequence[str]) -> bool:
    """Whether it is one with the trunk prefix 0 in front."""
    if head[:2] == "00" or sum(lengths) > 12 or min(lengths[2:], default=2) < 2:
        return False
    if len(head) == 1 and (len(lengths) < 3 or not set(gaps[0]) <= set(" ()")):
        return False
    if len(lengths) == 2 and (gaps == ["."] or (gaps == ["-"] and tuple(lengths) in ((5, 4), (5, 3)))):
        return False  # a decimal, a code of America's or Brazil's post
    if tuple(lengths) == (3, 2, 3) and set(gaps) == {"-"}:
        return False  # a car's plate
    if set(lengths) == {2} and len(lengths) == 4:
        return gaps == ["-", " ", " "]  # two times of day otherwise
    return True


def _dated(groups: Sequence[str]) -> bool:
    """Whether three of the groups in a row, or the first, are a date."""
    return _date(groups) or _day(groups[0]) is not None


def _date(groups: Sequence[str]) -> bool:
    for one, two, three in zip(groups, groups[1:], groups[2:], strict=False):
        if len(one) <= 2 and len(two) <= 2 and _year(three) and int(one) <= 31 and int(two) <= 31:
            return True
        if _year(one) and len(two) <= 2 and len(three) <= 2 and int(two) <= 12 and int(three) <= 31:
            return True
    return False
