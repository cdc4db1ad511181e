"""Values in the charset of an old page, which its parameter `cs` names, become UTF-8. Pure.

A value that is UTF-8 stays as it is: browsers encode as UTF-8 whatever the page is in (matomo.js does), and still send
the page's `cs`.
"""

from __future__ import annotations

import codecs
from urllib.parse import quote_from_bytes, unquote_to_bytes

_NAME_LIMIT = 40


def as_utf8(query: bytes, charset: str) -> bytes:
    """The query with values that are no UTF-8 written in UTF-8; unchanged where the charset is not known."""
    try:
        codec = codecs.lookup(charset.strip()[:_NAME_LIMIT])
        if not codec._is_text_encoding or codec.name.startswith(("utf", "idna", "punycode", "unicode", "raw", "undef")):
            return query
    except (LookupError, ValueError):
        return query
    return b"&".join(_part(part, codec.name) for part in query.split(b"&"))


def _part(part: bytes, charset: str) -> bytes:
    name, equals, value = part.partition(b"=")
    if value.isascii() and b"%" not in value:
        return part
    data = unquote_to_bytes(value.replace(b"+", b" "))
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return name + equals + quote_from_bytes(data.decode(charset, "replace").encode(), safe="").encode("ascii")
    return part
