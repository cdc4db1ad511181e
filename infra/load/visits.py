"""Visitors and their visits: the tracking parameters that a browser would send, one event after the other."""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random

from infra.load.agents import LANGUAGES, SCREENS, Agent, choose
from infra.load.journal import Fate
from infra.load.numbers import page_view_id
from infra.load.sites import ModelSite, component

STORED, EITHER = int(Fate.STORED), int(Fate.STORED | Fate.EXCLUDED)

SEARCHES = (
    "red shoes",
    "garden chair",
    "price list",
    "opening hours",
    "größe 42",
    "reset password",
    "東京 ホテル",
    "c++",
)
_REFERRERS = """https://www.google.com/ https://www.google.de/ https://www.google.co.uk/ https://www.google.co.jp/
    https://www.bing.com/search?q=red+shoes https://duckduckgo.com/ https://search.yahoo.com/search?p=handbook
    https://yandex.ru/search/?text=%D1%82%D0%B5%D1%81%D1%82 https://www.ecosia.org/search?q=garten https://www.baidu.com/
    https://www.facebook.com/ https://l.facebook.com/l.php?u=x&fbclid=IwAR0a https://t.co/k3jX2 https://www.linkedin.com/
    https://www.reddit.com/r/python/comments/1abc/ https://www.instagram.com/ https://www.youtube.com/watch?v=dQw4w9WgXcQ
    https://news.ycombinator.com/item?id=41000000 https://chatgpt.com/ https://www.perplexity.ai/
    https://partner.example/deals?ref=17 https://blog.partner.example/2026/best-of/ https://forum.example.org/t/4711
    https://mail.example.com/u/0/?user=jane.doe%40example.com https://intranet.example/wiki/Tools"""
_CAMPAIGNS = """utm_source=newsletter&utm_medium=email&utm_campaign=spring-sale
    utm_source=google&utm_medium=cpc&utm_campaign=brand&utm_term=red+shoes&gclid=EAIaIQobChMI7
    utm_source=facebook&utm_medium=social&utm_campaign=launch&utm_content=video-2&fbclid=IwAR2b
    mtm_campaign=autumn&mtm_kwd=jackets mtm_campaign=partners&mtm_source=partner.example&mtm_medium=referral
    pk_campaign=old-links&pk_kwd=archive utm_campaign=flyer utm_source=bing&utm_medium=cpc&msclkid=9f1c2d"""
# What real pages leak into their addresses: NUMBER is the event's.
_LEAKS = """email=jane.doe%2BNUMBER@example.org token=c0ffeeNUMBER&user=Jane%20Doe sessionid=8f14e45fceeaNUMBER
    order=DE-NUMBER-77&name=Müller tel=%2B4930NUMBER iban=DE0237010044053201NUMBER phpsessid=qNUMBERx"""
_OUTLINKS = """https://www.example.com/ https://maps.example.net/?q=Alexanderplatz+1 https://github.com/matomo-org/matomo
    mailto:sales@example.org tel:+4930123456 https://partner.example/buy?id=9&aff=veil"""
REFERRERS = tuple(component(url) for url in _REFERRERS.split())
CAMPAIGNS = tuple(component(parameters) for parameters in _CAMPAIGNS.split())
LEAKS = tuple(component(leak).replace("NUMBER", "{0}") for leak in _LEAKS.split())
OUTLINKS = tuple(component(url) for url in _OUTLINKS.split())
EVENTS = tuple(
    f"e_c={component(category)}&e_a={component(action)}&e_n={component(name)}"
    for category, action, name in (
        ("Video", "play", "Intro – how it works"),
        ("Video", "pause", "Intro – how it works"),
        ("Form", "submit", "newsletter: jane.doe@example.org"),
        ("Menu", "open", "main"),
        ("Filter", "size & colour", "42 | red"),
        ("JavaScript Errors", "https://cdn.example/app.js:10:2231", "TypeError: x is undefined"),
        ("Scroll", "75%", ""),
        ("null", "click", "null"),
    )
)


@dataclass(frozen=True, slots=True)
class Visitor:
    """id: 16 hex digits, "" without cookies. user: "" where not logged in."""

    id: str
    user: str
    agent: Agent
    language: str
    screen: str


def new_visitor(random: Random) -> Visitor:
    """A visitor; about one in ten has no cookies, one in twelve is logged in."""
    agent = choose(random)
    cookieless = random.random() < 0.1
    user = ""
    if random.random() < 0.08:
        number = random.randrange(10_000)
        user = f"jane.doe{number}@example.org" if random.random() < 0.5 else str(number)
    return Visitor(
        "" if cookieless else f"{random.getrandbits(64):016x}",
        user,
        agent,
        random.choice(LANGUAGES),
        random.choice(SCREENS[agent.kind]),
    )


class Visit:
    """One visit of a visitor to a site. `left`: events that are still to come."""

    __slots__ = (
        "_clock",
        "_fates",
        "_order",
        "_prefix",
        "_random",
        "_referrer",
        "_title",
        "_url",
        "left",
        "site",
        "visitor",
    )

    def __init__(self, random: Random, site: ModelSite, visitor: Visitor, *, returning: bool) -> None:
        self.site, self.visitor, self._random = site, visitor, random
        self.left = 1 if random.random() < 0.3 else 2 + int(random.expovariate(0.18))
        self._clock = random.randrange(86_400)
        self._order = 0
        self._fates = EITHER if visitor.agent.kind == "bot" else STORED  # a site may keep what crawlers do
        self._url = self._title = ""
        draw = random.random()
        self._referrer = "" if draw < 0.35 else random.choice(REFERRERS)
        plugins = "pdf=1&qt=0&realp=0&wma=0&fla=0&java=0&ag=0"
        user = f"&uid={component(visitor.user)}" if visitor.user else ""
        hints = f"&uadata={visitor.agent.hints}" if visitor.agent.hints else ""
        self._prefix = (
            f"idsite={site.id}&rec=1&apiv=1&_id={visitor.id}&_idn={int(not returning)}{user}&_refts=0&send_image=0"
            f"&{plugins}&cookie={int(bool(visitor.id))}&res={visitor.screen}{hints}"
        )

    def event(self, number: int) -> tuple[str, int]:
        """The query string of the visit's next event, which carries this number, and its expected fates."""
        random = self._random
        self.left -= 1
        clock = self._clock = (self._clock + 3 + int(random.random() * 60)) % 86_400
        common = (
            f"&r={int(random.random() * 1_000_000):06d}&h={clock // 3600}&m={clock // 60 % 60}&s={clock % 60}"
            f"&pv_id={page_view_id(number)}"
        )
        fates = self._fates
        draw = random.random()
        if not self._url or draw < 0.56:
            action = self._page(number)
        elif draw < 0.70:
            value = f"&e_v={int(random.random() * 500)}" if draw < 0.60 else ""
            action = f"{random.choice(EVENTS)}{value}&ca=1{self._here()}"
        elif draw < 0.75:
            word = component(random.choice(SEARCHES))
            action = f"search={word}&search_cat={self.site.kind}&search_count={int(random.random() * 40)}{self._here()}"
        elif draw < 0.78:
            action = f"download={random.choice(self.site.files)}{self._here()}"
        elif draw < 0.82:
            action = f"link={random.choice(OUTLINKS)}{self._here()}"
        elif draw < 0.88:
            touched = "&c_i=click" if draw < 0.83 else ""
            action = f"c_n=Banner%20{int(draw * 1000)}&c_p=%2Fimg%2Fb.png&c_t={self._url}{touched}&ca=1{self._here()}"
        elif draw < 0.94:
            action, fates = f"ping=1{self._here()}", EITHER
        elif self.site.products:
            action = self._shop(number)
        else:
            action = self._page(number)
        return f"{action}&{self._prefix}{common}", fates

    def _here(self) -> str:
        return f"&url={self._url}"

    def _page(self, number: int) -> str:
        random = self._random
        pages = self.site.pages
        url, title = pages[int(random.random() * random.random() * len(pages))]
        draw = random.random()
        if not self._url and draw < 0.12:
            url += "%3F" + random.choice(CAMPAIGNS)
        elif draw > 0.97:
            url += "%3F" + random.choice(LEAKS).format(number)
        elif draw > 0.95:
            title += f"%20%E2%80%93%20order%20{number}%20of%20jane.doe%40example.org"
        referrer, self._referrer = self._referrer, url
        self._url, self._title = url, title
        text = f"action_name={title}&url={url}&urlref={referrer}"
        if draw < 0.8:
            text += (
                f"&pf_net={int(draw * 90)}&pf_srv={40 + int(draw * 400)}&pf_tfr={int(draw * 30)}"
                f"&pf_dm1={int(draw * 900)}&pf_dm2={int(draw * 700)}&pf_onl={int(draw * 20)}"
            )
        return text

    def _shop(self, number: int) -> str:
        """A product view, a cart or an order with its items."""
        random = self._random
        chosen = random.sample(self.site.products, 1 + int(random.random() * 3))
        draw = random.random()
        if draw < 0.5:
            product = chosen[0]
            return (
                f"action_name={component(product.name)}{self._here()}&_pks={product.sku}&_pkn={component(product.name)}"
                f"&_pkc={component(json.dumps([product.category]))}&_pkp={product.price}"
            )
        rows = [[p.sku, p.name, [p.category], p.price, 1 + int(random.random() * 3)] for p in chosen]
        total = sum(float(row[3]) * int(row[4]) for row in rows)  # type: ignore[arg-type, call-overload]
        items = f"&ec_items={component(json.dumps(rows))}"
        if draw < 0.75:
            return f"idgoal=0&revenue={total:.2f}{items}{self._here()}"
        return (
            f"idgoal=0&ec_id=DE-{number}-{self._order}&revenue={total * 1.19 + 4.9:.2f}&ec_st={total:.2f}"
            f"&ec_tx={total * 0.19:.2f}&ec_sh=4.90&ec_dt=0{items}{self._here()}"
        )
