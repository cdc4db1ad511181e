"""Tokens: what lets its holder in, or stands for a person's session.

JSON web tokens (RFC 7519); 29 to 36 hex digits that stand alone, which Matomo takes for a token; keys in the shapes
that well-known services give theirs, so that leaks can be found; UUIDs (RFC 9562) and opaque values of which a word
before says that they stand for a person, a session or a secret. A hash in the name of a file or of its folder is none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

# All of them lie within words of these.
_words = re.compile(r"(?<![A-Za-z0-9_.-])[A-Za-z0-9_.-]{16,8192}").finditer
_jwt = re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{13,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?").search
_whole = re.compile(r"[A-Za-z0-9_-]{16}").search
_hex = re.compile(r"[0-9A-Fa-f]{29,36}").fullmatch
_file = re.compile(
    r"[^?#&\s]{0,400}?\.(?:m?js|css|png|jpe?g|gif|svg|webp|avif|ico|woff2?|ttf|otf|mp[34]|webm|m3u8|ts|map|wasm|pdf|zip)"
    r"(?![A-Za-z0-9_-])",
    re.IGNORECASE,
).match
_UUID = re.compile(
    r"(?<![A-Za-z0-9-])[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}(?![A-Za-z0-9-])"
)
_before = r"[\"'\]]{0,2}[=:/ +]{1,3}[\"']?$"
_person = re.compile(
    r"(?:user|customer|client|member|account|visitor|person|people|contact|subscriber|patient|employee|profile|session"
    r"|sess|sid|uid|uuid|guid|auth|token|secret|key|device|invite|invitation|reset|confirm|verify|unsubscribe)"
    rf"[A-Za-z_-]{{0,12}}{_before}",
    re.IGNORECASE,
).search
_secret = re.compile(
    rf"(?:token|secret|api[_-]?key|session[_-]?id|passw(?:or)?d|signature|bearer){_before}", re.IGNORECASE
).search
_KEYS = (
    r"[sprk]k_(?:live|test)_[A-Za-z0-9]{16,}",  # Stripe
    r"whsec_[A-Za-z0-9]{24,}",
    r"A(?:KIA|SIA|ROA|IDA)[A-Z0-9]{16}",  # Amazon
    r"gh[pousr]_[A-Za-z0-9]{36,}",  # GitHub
    r"github_pat_[A-Za-z0-9_]{22,}",
    r"gl(?:pat|dt|rt|cbt|ptt)-[A-Za-z0-9_-]{20,}",  # GitLab
    r"xox[abeoprs]-[A-Za-z0-9-]{12,}",  # Slack
    r"xapp-[0-9]-[A-Za-z0-9-]{20,}",
    r"AIza[A-Za-z0-9_-]{35}",  # Google
    r"ya29\.[A-Za-z0-9_-]{20,}",
    r"GOCSPX-[A-Za-z0-9_-]{28}",
    r"sk-(?:proj-|ant-|svcacct-)?[A-Za-z0-9_-]{32,}",  # OpenAI, Anthropic
    r"SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{16,64}",  # SendGrid
    r"key-[0-9a-f]{32}",  # Mailgun
    r"(?:AC|SK)[0-9a-f]{32}",  # Twilio
    r"npm_[A-Za-z0-9]{36}",
    r"pypi-[A-Za-z0-9_-]{50,}",
    r"hf_[A-Za-z0-9]{30,40}",  # Hugging Face
    r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}",  # Shopify
    r"do[opr]_v1_[0-9a-f]{64}",  # DigitalOcean
    r"sq0[a-z]{3}-[A-Za-z0-9_-]{22,43}",  # Square
    r"EAA[A-Za-z0-9]{60,}",  # Facebook
)
_key = re.compile(rf"(?<![A-Za-z0-9_-])(?:{'|'.join(_KEYS)})(?![A-Za-z0-9_-])").search
_LOOK_BACK = 40


def find(text: str) -> Iterator[tuple[int, int]]:
    """Where they begin and end."""
    for word in _words(text):
        start = word.start()
        token = word[0].rstrip(".-")
        end = start + len(token)
        if not opaque(token):
            continue
        if _whole(token) and _after(_secret, text, start):
            yield start, end
        elif _hex(token):
            if not _file(text, end):
                yield start, end
        else:
            found = _jwt(text, start, end) or _key(text, start, end) or _UUID.search(text, start, end)
            if found and (found.re is not _UUID or _after(_person, text, found.start())):
                yield found.span()


def _after(words: Callable[[str, int, int], object], text: str, at: int) -> bool:
    return words(text, max(0, at - _LOOK_BACK), at) is not None


def opaque(text: str) -> bool:
    """Whether it looks drawn at random: words and slugs have no capitals and few digits."""
    return text != text.lower() or sum(map(str.isdecimal, text)) >= 6
