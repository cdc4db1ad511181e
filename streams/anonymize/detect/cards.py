"""Payment cards: 12 to 19 digits with the prefix and the length of a scheme and a right check digit (ISO/IEC 7812).

Whole, or in the groups in which cards are printed. What follows a decimal point is no card.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from streams.anonymize.detect.digits import after_plus, digits_of, ean, is_article, luhn

_card = re.compile(
    r"[0-9](?<![A-Za-z0-9].)(?<![0-9][.,].)(?:[0-9]{11,18}|"
    r"[0-9]{3}([ .+_/-]{1,2})[0-9]{4}\1[0-9]{4}\1[0-9]{4}(?:\1[0-9]{3})?|"
    r"[0-9]{3}([ .+_/-]{1,2})[0-9]{6}\2[0-9]{4,5})(?![A-Za-z0-9])(?![.,][0-9])"
).finditer

_MAESTRO = frozenset({12, 13, 14, 15, 16, 17, 18, 19})
# Prefixes (from, to) and lengths by scheme.
_SCHEMES: tuple[tuple[int, int, frozenset[int]], ...] = (
    (4, 4, frozenset({13, 16, 19})),  # Visa
    (51, 55, frozenset({16})),  # Mastercard
    (2221, 2720, frozenset({16})),
    (34, 34, frozenset({15})),  # American Express
    (37, 37, frozenset({15})),
    (6011, 6011, frozenset({16, 17, 18, 19})),  # Discover
    (644, 649, frozenset({16, 17, 18, 19})),
    (65, 65, frozenset({16, 17, 18, 19})),
    (3500, 3599, frozenset({16, 17, 18, 19})),  # JCB
    (1800, 1800, frozenset({15})),
    (2131, 2131, frozenset({15})),
    (300, 305, frozenset({14, 16})),  # Diners Club
    (3095, 3095, frozenset({14, 16})),
    (36, 36, frozenset({14})),
    (38, 39, frozenset({14, 16})),
    (62, 62, frozenset({16, 17, 18, 19})),  # UnionPay
    (81, 81, frozenset({16, 17, 18, 19})),
    (2200, 2204, frozenset({16})),  # Mir
    (9792, 9792, frozenset({16})),  # Troy
    (60, 60, frozenset({16})),  # RuPay
    (5018, 5018, _MAESTRO),
    (5020, 5020, _MAESTRO),
    (5038, 5038, _MAESTRO),
    (5893, 5893, _MAESTRO),
    (6304, 6304, _MAESTRO),
    (6759, 6759, _MAESTRO),
    (6761, 6763, _MAESTRO),
    (67, 67, frozenset({16, 18, 19})),
)


def find(text: str) -> Iterator[tuple[int, int]]:
    """Where they begin and end."""
    for match in _card(text):
        digits = digits_of(match[0])
        start = match.start()
        other = is_article(text, start) or after_plus(text, start) or (len(digits) == 13 and ean(digits))
        if known(digits) and luhn(digits) and not other:
            yield match.span()


def known(digits: str) -> bool:
    """Whether a scheme has numbers of this prefix and length."""
    return any(
        len(digits) in lengths and first <= int(digits[: len(str(first))]) <= last for first, last, lengths in _SCHEMES
    )
