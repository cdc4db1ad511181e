"""The opt-out page and script: what a request for one is answered."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template
from urllib.parse import urlencode

from ingest import headers
from ingest.headers import Fields
from ingest.optout.texts import TEXTS, choose
from schemas import parameters
from schemas.packets import Flag
from schemas.sites import PolicySet

PATHS = frozenset((b"/opt-out", b"/opt-out.js"))
MATOMO_PATH = b"/index.php"
MATOMO_ACTIONS = {"optOut": b"/opt-out", "optOutJS": b"/opt-out.js"}
COOKIE = "matomo_ignore"
DAYS = 400  # the longest that browsers keep a cookie
DIV = "matomo-opt-out"  # where Matomo's script writes unless told otherwise

HTML = b"text/html; charset=utf-8"
SCRIPT = b"text/javascript; charset=utf-8"

_color = re.compile(r"#?(?:[0-9a-fA-F]{3}|[0-9a-fA-F]{6})").fullmatch
_size = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,2})?(?:px|pt|em|rem|%|vw|vh)").fullmatch
_family = re.compile(r"[A-Za-z0-9 ,'-]{1,128}").fullmatch
_div = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch

_PAGE = Template(
    """<!doctype html>
<html lang="$language">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="robots" content="noindex">
<title>$title</title>
<style>body{font-family:sans-serif;line-height:1.5;margin:1em}button{font:inherit;padding:.4em .8em}$style</style>
<main>
$intro<p role="status">$status</p>
<form method="post" action="/opt-out?$query"><button name="choice" value="$choice">$button</button></form>
</main>
</html>
"""
)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer but for what the server adds. `extra`: header lines, each with its CRLF."""

    status: int
    body: bytes
    kind: bytes
    extra: bytes = b""


def path_of(path: bytes, query: bytes) -> bytes | None:
    """Which of `PATHS` a request is for, None where it is for neither."""
    if path in PATHS:
        return path
    if path != MATOMO_PATH or b"optOut" not in query:
        return None
    given = _given(query)
    return MATOMO_ACTIONS.get(given.get("action", "")) if given.get("module") == "CoreAdminHome" else None


def reply(
    path: bytes, method: bytes, query: bytes, fields: Fields, body: bytes, policies: PolicySet | None = None
) -> Reply:
    """The answer at one of `PATHS`. `body`: the form that the page's button sends.

    `policies` tell whether the site that `idsite` names heeds a browser that asks not to be tracked.
    """
    given = _given(query)
    language = choose(given.get("language", ""), fields.get("accept-language", b"").decode("latin-1"))
    if path == b"/opt-out.js":
        return _script(given, language, _heeded(given, policies))
    if method == b"POST":
        return _chosen(given, fields, body)
    flags = headers.flags(fields)
    return _page(given, language, bool(flags & Flag.OPT_OUT), bool(flags & _heeded(given, policies)))


def _given(query: bytes) -> dict[str, str]:
    return parameters.parse(query[:4096].decode("latin-1"))


def _heeded(given: dict[str, str], policies: PolicySet | None) -> int:
    """The signals of browsers that the site heeds, as `Flag` bits; none where no known site is named."""
    policy = policies.of(parameters.integer(given.get("idsite"), low=0, high=2**32)) if policies is not None else None
    if policy is None:
        return 0
    heeded = Flag.DNT if policy.privacy.do_not_track else Flag(0)
    return int(heeded | (Flag.GPC if policy.privacy.global_privacy_control else Flag(0)))


def _page(given: dict[str, str], language: str, refused: bool, signal: bool) -> Reply:
    texts = TEXTS[language]
    # What was chosen a moment ago and is not so now was not kept.
    lost = given.get("chosen") not in (None, "refuse" if refused else "allow")
    state = texts.refused if refused else texts.signal if signal else texts.counted
    status = texts.cookies if lost else state
    intro = f"<p>{escape(texts.intro)}</p>\n" if given.get("showIntro") != "0" else ""
    text = _PAGE.substitute(
        language=language,
        title=escape(texts.title),
        style=_style(given),
        intro=intro,
        status=escape(status),
        query=escape(urlencode(_kept(given))),
        choice="allow" if refused else "refuse",
        button=escape(texts.allow if refused else texts.refuse),
    )
    extra = (
        b"Content-Language: %s\r\nVary: Accept-Language, Cookie\r\n"
        b"Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; form-action 'self'\r\n"
        b"Referrer-Policy: no-referrer\r\nX-Content-Type-Options: nosniff\r\n" % language.encode()
    )
    return Reply(200, text.encode(), HTML, extra)


def _chosen(given: dict[str, str], fields: Fields, body: bytes) -> Reply:
    # Only the page's own button may change the choice, not a form on somebody else's page.
    if fields.get("sec-fetch-site", b"same-origin") != b"same-origin":
        return Reply(403, b"The choice can only be made on the opt-out page itself.\n", b"text/plain; charset=utf-8")
    choice = parameters.parse(body[:256].decode("latin-1")).get("choice", "")
    if choice not in ("refuse", "allow"):
        return Reply(400, b"Parameter choice must be refuse or allow.\n", b"text/plain; charset=utf-8")
    value, life = ("1", DAYS * 86_400) if choice == "refuse" else ("", 0)
    common = f"{COOKIE}={value}; Path=/; Max-Age={life}; HttpOnly"
    cookies = (
        f"{common}; SameSite=Lax",  # kept where the collector speaks plain http
        f"{common}; SameSite=None; Secure",  # takes its place over https: one jar for all sites
        f"{common}; SameSite=None; Secure; Partitioned",  # a jar for each site around the frame
    )
    place = "/opt-out?" + urlencode({**_kept(given), "chosen": choice})
    extra = f"Location: {place}\r\n" + "".join(f"Set-Cookie: {cookie}\r\n" for cookie in cookies)
    return Reply(303, b"", b"text/plain; charset=utf-8", extra.encode())


def _script(given: dict[str, str], language: str, heeded: int) -> Reply:
    div = given.get("divId", DIV)
    options = {
        "div": div if _div(div) else DIV,
        "intro": given.get("showIntro") != "0",
        "seconds": DAYS * 86_400,
        "doNotTrack": bool(heeded & Flag.DNT),
        "globalPrivacyControl": bool(heeded & Flag.GPC),
        "style": {name: value for name, value in _styles(given).items() if value},
    }
    source = files(__package__).joinpath("script.js").read_text("utf-8")
    # Within a script "</" could end an element that it was pasted into; JSON allows the escape.
    texts = {name: getattr(TEXTS[language], name) for name in TEXTS[language].__struct_fields__}
    data = json.dumps({"texts": texts, "language": language, **options}, ensure_ascii=False).replace("</", "<\\/")
    extra = (
        b"Content-Language: %s\r\nVary: Accept-Language\r\nX-Content-Type-Options: nosniff\r\n"
        b"Cross-Origin-Resource-Policy: cross-origin\r\n" % language.encode()
    )
    return Reply(200, source.replace("__OPTIONS__", data).encode(), SCRIPT, extra)


def _styles(given: dict[str, str]) -> dict[str, str]:
    """Matomo's four parameters of style as CSS, "" for a value that is not plainly one."""

    def color(name: str) -> str:
        value = given.get(name, "")
        return "#" + value.lstrip("#") if _color(value) else ""

    size, family = given.get("fontSize", ""), given.get("fontFamily", "")
    return {
        "backgroundColor": color("backgroundColor"),
        "color": color("fontColor"),
        "fontSize": size if _size(size) else "",
        "fontFamily": family if _family(family) else "",
    }


def _style(given: dict[str, str]) -> str:
    names = {
        "backgroundColor": "background-color",
        "color": "color",
        "fontSize": "font-size",
        "fontFamily": "font-family",
    }
    rules = "".join(f"{names[name]}:{value};" for name, value in _styles(given).items() if value)
    return f"body{{{rules}}}" if rules else ""


def _kept(given: dict[str, str]) -> dict[str, str]:
    """The parameters that the page after the choice needs."""
    names = ("idsite", "language", "showIntro", "backgroundColor", "fontColor", "fontSize", "fontFamily")
    return {name: given[name] for name in names if name in given}
