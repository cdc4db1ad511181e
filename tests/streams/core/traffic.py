"""Generated tracking traffic, by seed: what trackers send, odd requests, and bytes nobody means well with."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import accumulate
from typing import Any
from urllib.parse import quote

import msgspec
import numpy as np
import pyarrow as pa

from schemas import packets, parameters
from schemas.goals import Goal, Match, On
from schemas.packets import Event, Flag, Header, Repeat
from schemas.privacy import CountryByLanguage, of_preset
from schemas.sites import PolicySet, SitePolicy
from streams.batch import PartitionState, PolicyMissing, Record, SecretMissing
from streams.state import VISIT_STATE_COLUMNS
from streams.surroundings import Asked, AskedVisits
from streams.window import Run

START_MS = 1_795_000_000_000  # 2026-11-18 08:26:40 UTC
WORDS = ["red", "blue", "summer", "winter", "sale", "shoe", "coat", "lamp", "desk", "garden", "news", "world"]
WORDS += ["café", "étude", "größe", "東京"]
AGENTS = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{v}.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Linux; Android 14; SM-S9{v}B) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{v}.0.0.0 "
    "Mobile Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_{d} like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.{d} "
    "Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:{v}.0) Gecko/20100101 Firefox/{v}.0",
    "Mozilla/5.0 (compatible; Googlebot/2.{d}; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/{v}.0.0.0 Safari/537.36",
    "Mozilla/5.0 (compatible; ChatGPT-User/1.{d}; +https://openai.com/bot)",
    "python-requests/2.{d}",
]
REFERRERS = [
    "https://www.google.com/",
    "https://www.bing.com/search?q=red+shoe",
    "https://t.co/abc",
    "https://l.facebook.com/l.php?u=x&fbclid=Zz",
    "https://partner.example.org/list/?id=7&sid=9",
    "https://chatgpt.com/",
    "https://www.site1.example/before?gclid=1",
    "android-app://com.example.app/",
    "https://www.site1.example/news/before",
    "https://pay.example.org/done",
    "https://m.instagram.com/?e=1&u=2",
]
BASE = "idsite=1&rec=1&url=https%3A%2F%2Fwww.site1.example%2Fa&_id=76d1f50cbfda087a&pv_id=abc123"

ODD = [
    "",
    "flag",
    "&&&",
    "=x",
    "rec",
    "rec=1",
    "rec=1&rec=0",
    "rec=0&%72ec=1",
    *(
        BASE + more
        for more in [
            "",
            "&uid",
            "&uid=",
            "&uid=+",
            "&uid=caf%C3%A9",
            "&uid=" + "x" * 300,
            "&link=https%3A%2F%2Fo.example%2F%3Fto%3Djo%40x.example%26gclid%3D1",
            "&link=mailto%3Ajo%40x.example",
            "&link=",
            "&link=+",
            "&download=https%3A%2F%2Fo.example%2Fcard.pdf%3Fsid%3D4",
            "&link=https%3A%2F%2Fa.example&download=https%3A%2F%2Fb.example",
            "&e_c&e_a=x",
            "&e_c=+&e_a=b",
            "&e_c=null&e_a=null&e_n=null&e_v=null",
            "&e_c=a&e_a=b&e_v=1e3&ca=1",
            "&e_c=a&e_a=b&e_v=nan",
            "&ca=1",
            "&e_c=JavaScript+Errors&e_a=https%3A%2F%2Fu%3Apw%40x.example%2Fa%3Fsid%3D1%3A3%3A4&ca=1",
            "&pf_net=0x1F",
            "&pf_net=1_000",
            "&pf_net=%2B7",
            "&pf_net=+7",
            "&pf_net=%31%32",
            "&pf_net=",
            "&pf_net=-0",
            "&pf_net=-5",
            "&pf_net=007",
            "&pf_net=16777215",
            "&pf_net=16777216",
            "&pf_net=99999999999999999999",
            "&pf_net=-99999999999999999999",
            "&pf_net=%D9%A1",
            "&idgoal=99999999999",
            "&idgoal=3&revenue=1e400",
            "&idgoal=1&revenue=nan",
            "&idgoal=1&revenue=-12.50",
            "&idgoal=0&ec_id=A%201&ec_items=%5B%5B%22%22%5D%2C%5B%22s%22%5D%5D&revenue=1e3",
            "&idgoal=0&ec_items=notjson",
            "&idgoal=0&ec_items=%5B%5B%22s%22%2C%22n%22%2C%5B%22c%22%5D%2C%2210%22%2C2.0%5D%2C5%2Cnull%5D&ec_st=7.5",
            "&idgoal=0&ec_items=" + quote(json.dumps([["\ud800", "\ud800x", "", 1e308, 10**30], [1, 2, 3, True, -4]])),
            "&idgoal=0&ec_items=" + "%5B" * 3000,
            "&idgoal=0&ec_items=%5B%5B%22s%22%2C%22n%22%2C%22%22%2CNaN%2CInfinity%5D%5D",
            "&search=",
            "&search=%20",
            "&search=caf%C3%A9+%2B1&search_count=-3",
            "&search=a&search_count=99999999999&search_cat=b",
            "&c_n=+",
            "&c_n=Ad&c_p=img.png&c_t=https%3A%2F%2Fx.example%2F%3Fgclid%3D1&c_i=click",
            "&ping=1",
            "&ping=01",
            "&ping=%31",
            "&new_visit=1",
            "&_id=",
            "&_id=zz",
            "&_id=76d1",
            "&_id=%37%36d1f50cbfda087a",
            "&_id=76D1F50CBFDA087Aand+more",
            "&cid=76d1f50cbfda087b",
            "&cid=",
            "&cid=nothex",
            "&cid=76d1f50cbfda087b0",
            "&action_name=%E9%zz%2+a%00b",
            "&action_name=%F0%9F%98%80" * 2,
            "&action_name=%00+%0A",
            "&action_name=" + "%C3%A9" * 2000,
            "&action_name=404%2FURL+%3D+%252Fa%253Fsid%253D1%2526p%253D2%2FFrom+%3D+https%253A%252F%252Fu%253Apw%2540x.example",
            "&action_name=see+https%3A%2F%2Fx.example%2F%3Fgclid%3D1%26p%3D2+and+more",
            "&h=25&m=1&s=1",
            "&h=x",
            "&h=23&m=59&s=59",
            "&ua=curl%2F8&lang=xx-YY",
            "&ua=+&lang=+",
            "&lang=" + "a" * 90,
            "&res=",
            "&res=800x600",
            "&res=%C3%A9%ED%A0%80",
            "&uadata=%7B",
            "&uadata=%7B%22brands%22%3A%5B%7B%22brand%22%3A%22%48eadlessChrome%22%7D%5D%7D",
            "&consent=1",
            "&pv_id=!abc",
            "&pv_id=abcdefghij",
            "&pv_id=%61%62",
            "&url=javascript%3Aalert(1)",
            "&url=",
            "&url=https%3A%2F%2F",
            "&url=https%3A%2F%2Fu%3Apw%40www.site1.example%2F%3FQ%3Dx%3Bb%3D1%26%2567clid%3Dzz",
            "&url=HTTPS%3A%2F%2FWWW.Site1.Example%2F%3FGCLID%3Dx%23frag%3Fsid%3D1%26a%3D2",
            "&url=https%3A%2F%2Fwww.site1.example%2Findex%3Bjsessionid%3Dvalue%3Bp1%3Dv1%3Fp2%3Dv2",
            "&url=https%3A%2F%2Fwww.site1.example%2F%3Fq%3Dfoo%26utm_campaign%3Dspring%2Bsale%26utm_term%3Dt",
            "&url=https%3A%2F%2Fwww.site1.example%2F%3Futm_source%3Donly",
            "&url=https%3A%2F%2Fwww.site1.example%2F%3Fback%3Dhttps%253A%252F%252Fx.example%252F%253Fsid%253D1",
            "&url=https%3A%2F%2Fwww.site1.example%2F%00%0A%3Fa%3D1",
            "&url=https%3A%2F%2F%5B%3A%3A1%5D%3A80%2Fx",
            "&mtm_campaign=direct&utm_campaign=no",
            "&utm_source=alone",
            "&urlref=https%3A%2F%2Fwww.site1.example%2Fx",
            "&urlref=https%3A%2F%2Fwww.google.de%2Fsearch%3Fq%3DRed%2BShoe%26gclid%3D1",
            "&urlref=https%3A%2F%2Fwww.baidu.com%2Fs%3Fwd%3D%25C1%25F7%25D0%25D0",
            "&urlref=nonsense",
            "&urlref=https%3A%2F%2Fu%3Apw%40other.example%2F%3Fsid%3D1",
            "&urlref=https%3A%2F%2Fwww.site1.example%2FNEWS%2Fx",
            "&urlref=https%3A%2F%2Fimages.google.com%2Fimgres%3Fprev%3D%2Fimages%253Fq%253Dred%2Bshoe",
            "&urlref=https%3A%2F%2Fwww.google.de%2Fsearch%3Fq%3Dshoe%26tbm%3Disch&utm_campaign=a",
            "&urlref=https%3A%2F%2Fwww.google.de%2Fsearch%3Fq%3Dshoe&utm_campaign=a&utm_term=b",
            "&url=https%3A%2F%2Fwww.site1.example%2F%23%3Fq%3Dshoe%26cat%3DMen",
            "&url=https%3A%2F%2Fwww.site1.example%2F%3Fcat%3DMen%26q%3D%2520%26q%3Dshoe%26x%3D1&search_cat=given",
            "&url=https%3A%2F%2Fwww.site1.example%2F%3Fq%3Dshoe%26x%3D1&link=https%3A%2F%2Fo.example%2F",
            "&url=https%3A%2F%2Fwww.site1.example%2F%3Fcmp%3Dspring%26kw%3Dshoe&cmp=no",
            "&lang=en-u-ca-buddhist,fr-CA",
            "&lang=%28x%29+zh_Hant_TW.UTF-8%3Bq%3D0.1%2Ciw%3Bq%3D0.2",
            "&ua=GPTBot%2F1.2&bots=1",
            "&ua=MistralAI-User",
            "&bots=1&ua=Googlebot",
            "&ua=Googlebot%2F2.1",
            "&cdt=2026-11-18+08:00:00",
            "&cdt=2026-11-18T08%3A00%3A00.250Z",
            "&cdt=2026-11-17+08:00:00&cdo=-5",
            "&cdt=2024-02-29",
            "&cdt=1700000000",
            "&cdt=5",
            "&cdt=4102444799",
            "&cdt=never",
            "&cdo=40",
            "&cdo=99990",
            "&cdo=99999999999",
            "&zz=10",
            "&zz=%2B1",
            "&urlref=http%3A%2F%2Fsub.SEMALT.com%2F%3Fa%3Db",
            "&link=%2F%2Fo.example%2Fx&url=myapp%3A%2F%2Fscreen%2F1",
            "&link=javascript%3A%2F%2Fo.example%2F%250aalert(1)",
            "&hsr_smp=1&hsr_text=secret&fa_fields=x&%66a_x=1",
            "&hsr_vid=a1&hsr_ev=%5B%5D",
            "&consent=0&hsr_s%72=500&cid=wrong",
            "&send_image=0&unknown=%FF%FE",
            "&_pks=S1&_pkn=Jo%40x.example&_pkc=%5B%22a%22%2C%22b%0A%22%2C3%2Cnull%5D&_pkp=9.5",
            "&_pks=+&_pkc=one&_pkp=x",
            "&_pks=S1&_pkc=%5B%22&idgoal=0&ec_items=%5B%5B%22s%22%2C%22n%22%2C%5B%22a%22%2C%22b%22%5D%2C2%5D%5D&ec_id=7",
            "&ma_id=x1_-&ma_re=https%3A%2F%2Fv.example%2Fa.mp4%3Fsid%3D1&ma_mt=Video&ma_ti=A&ma_pn=p&ma_st=7&ma_fs=1&ca=1",
            "&ma_id=x1&ma_re=&ma_st=7&ca=1",
            "&ma_id=%21&ma_re=https%3A%2F%2Fv.example%2Fa.mp4",
            "&ma_id=x1&ma_re=nonsense&ma_mt=film&ma_st=-4&ma_le=99999999999&idgoal=2",
            "&ca=1&cra=Jo%40x.example+is+null&cra_tp=TypeError&cra_ct=ui&cra_rl=7&cra_rc=-1&cra_ru=%2F%2Fo.example%2Fa.js%3Fsid%3D1"
            "&cra_st=a%0D%0Ab+https%3A%2F%2Fu%3Apw%40o.example%2F%3Fsid%3D1%0A%0Ac",
            "&cra=no+custom+action&cra_rl=7",
            "&ca=1&cra=+&download=https%3A%2F%2Fo.example%2Fx",
            "&uadata=%7B%22platform%22%3A%22Windows%22%2C%22brands%22%3A%5B%7B%22brand%22%3A%22Chromium%22%2C%22version%22%3A%22120%22%7D%2C3%5D%7D",
            "&uadata=%5B1%5D",
            "&idgoal=1&revenue=",
            "&idgoal=2",
            "&idgoal=4",
            "&url=https%3A%2F%2Fwww.site1.example%2Fthanks%3Fsid%3D1",
        ]
    ),
]


@dataclass(slots=True)
class World:
    """Look-ups in memory: policy sets by version, and a secret for each date but the dead ones."""

    sets: dict[bytes, PolicySet]
    dead: set[date] = field(default_factory=set)
    asked: int = 0
    stored: list[tuple[tuple[int, int, int], int, int, int, int]] = field(default_factory=list)
    lookups: list[Asked] = field(default_factory=list)
    followed: list[dict[str, Any]] = field(default_factory=list)  # what a look-up of visits reads of stored rows
    late: list[AskedVisits] = field(default_factory=list)

    def policies(self, version: bytes) -> PolicySet:
        try:
            return self.sets[version]
        except KeyError:
            raise PolicyMissing(version) from None

    def open(self, value: bytes, head: Header, partition: int) -> bytes:
        raise AssertionError("no packet here is sealed")

    def day_secret(self, day: date) -> bytes:
        self.asked += 1
        if day in self.dead:
            raise SecretMissing(day)
        return day.isoformat().encode().ljust(32, b"-")

    def site_key(self, site: int) -> bytes:
        return str(site).encode().ljust(32, b"+")

    def store(self, events: pa.Table) -> None:
        """Remember the identities of rows that are stored: place, site, halves, moment; and their visits."""
        for name in ("visit_start", "visit_last", "time"):
            at = events.schema.get_field_index(name)
            events = events.set_column(at, name, events[name].cast(pa.int64()))
        self.followed += events.select(["partition", "site_id", "time", *VISIT_STATE_COLUMNS]).to_pylist()
        names = ("partition", "generation", "offset", "site_id", "repeat_id", "received_at")
        columns = [events[name].to_pylist() for name in names[:5]]
        columns.append(events["received_at"].cast(pa.int64()).to_pylist())
        for partition, generation, offset, site, repeat, at in zip(*columns, strict=True):
            high, low = struct.unpack("<QQ", repeat)
            if high:
                self.stored.append(((partition, generation, offset), site, high, low, at))

    def identities(self, asked: Sequence[Asked]) -> list[Run]:
        self.lookups += asked
        out = []
        for one in asked:
            found = [
                (high, low, at)
                for place, site, high, low, at in self.stored
                if place[0] == one.partition
                and place < one[:3]
                and site in one.sites
                and high in one.high
                and one.first_ms <= at <= one.last_ms
            ]
            high_, low_, at_ = zip(*found, strict=True) if found else ((), (), ())
            out.append(Run(np.array(high_, np.uint64), np.array(low_, np.uint64), np.array(at_, np.int64)))
        return out

    def visits(self, asked: Sequence[AskedVisits]) -> list[list[tuple[object, ...]]]:
        self.late += asked
        out = []
        for one in asked:
            hashes = one.users | one.visitors | one.configs
            latest: dict[int, dict[str, Any]] = {}
            for row in self.followed:
                place = row["partition"] == one.partition and (row["generation"], row["offset"]) < one[1:3]
                if place and hashes & {row["visit_user_id"], row["visit_visitor_id"], row["visit_config_id"]}:
                    spans = (row["site_id"] == site and a <= row["time"] <= b for site, a, b in one.spans)
                    known = latest.get(row["visit_id"])
                    order = [row[name] for name in VISIT_STATE_COLUMNS[9:]]
                    if any(spans) and (known is None or order > [known[name] for name in VISIT_STATE_COLUMNS[9:]]):
                        latest[row["visit_id"]] = row
            out.append([tuple(row[name] for name in VISIT_STATE_COLUMNS) for row in latest.values()])
        return out


EXCLUSIONS: dict[int, dict[str, Any]] = {
    3: {
        "keep_bots": True,
        "excluded_agents": ("/iPad|curl\\/8/", "WINDOWS NT"),
    },
    4: {
        "excluded_addresses": ("2a01::/17", "0.0.0.0/2", "81.2.69.*"),
        "excluded_requests": ("e_c==form,zz=^1,res!@x",),
    },
    5: {"exclude_unknown_urls": True, "excluded_requests": ("zz=$x,zz==%2B1",), "excluded_agents": ("firefox",)},
}


GOALS = {
    2: (
        Goal(1, On.URL, Match.CONTAINS, "THANKS", revenue=2.5),
        Goal(2, revenue=7.0, repeats=True),
        Goal(3, On.URL, Match.REGEX, r"/(red|blue)/", case_sensitive=True),
        Goal(4, On.TITLE, Match.CONTAINS, "Garden", repeats=True),
        Goal(5, On.EVENT_ACTION, Match.EXACT, "PLAY", event_value=True, revenue=1.0),
        Goal(6, On.EVENT_NAME, Match.CONTAINS, "Clip 1", case_sensitive=True),
        Goal(7, On.DOWNLOAD, Match.CONTAINS, ".pdf"),
        Goal(8, On.OUTLINK, Match.REGEX, "out[1-9]\\."),
        Goal(9, On.EVENT_CATEGORY, Match.EXACT, "form"),
    ),
    1: (Goal(1, On.URL, Match.CONTAINS, "thanks"), Goal(3, On.TITLE, Match.CONTAINS, "a", revenue=1.5)),
}
FOLDERS = {4: ("site1.example/news", "site1.example/summer")}


def policy_set(sites: int = 5) -> PolicySet:
    """Sites 1 to `sites`, each a little different."""
    zones = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"]
    made = {
        site: msgspec.structs.replace(
            SitePolicy(**EXCLUSIONS.get(site, {})),
            timezone=zones[site % len(zones)],
            domains=(f"*.shop{site}.example", f"www.site{site}.example", *FOLDERS.get(site, ())) if site % 3 else (),
            excluded_referrers=("*.example.org",) if site % 2 else (),
            goal_rules=GOALS.get(site, ()),
            campaign_parameters={"name": ("cmp", "c2"), "term": ("kw",)} if site < 3 else {},
            privacy=msgspec.structs.replace(
                of_preset("matomo-default"),
                mask_bytes=site % 5,
                excluded_parameters=("customer", f"x{site}", *(("/^s.d$/",) if site == 3 else ())),
                keep_fragment=site % 2 == 0,
                search_category_parameters=("cat", "page") if site % 2 else (),
                country_by_language=list(CountryByLanguage)[site % 3],
            ),
        )
        for site in range(1, sites + 1)
    }
    return PolicySet(made)


def world(*sets: PolicySet) -> World:
    """A world that knows these policy sets."""
    known = sets or (policy_set(),)
    return World({one.version: one for one in known})


def address(random_: random.Random) -> bytes:
    """An IPv4 address as mapped, an IPv6 address, now and then a 6to4 one."""
    kind = random_.random()
    if kind < 0.05:
        return b"\0" * 10 + b"\xff\xff" + random_.choice([b"\x40\x04\x00\x01", b"\x42\xf9\x55\x24"])
    if kind < 0.7:
        return b"\0" * 10 + b"\xff\xff" + random_.randbytes(4)
    return (b"\x20\x02" if kind < 0.75 else b"\x2a\x01") + random_.randbytes(14)


@dataclass(slots=True)
class Visitor:
    site: int
    number: str
    agent: str
    language: str
    address: bytes
    user: str
    resolution: str


def q(text: str) -> str:
    """Percent-encoded as matomo.js does."""
    return quote(text, safe="~()*!'")


class Traffic:
    """Events of a few visitors of several sites, in rising time."""

    def __init__(self, seed: int, sites: int = 5, visitors: int = 40, pages: int = 60, step_ms: int = 9_000) -> None:
        self.random = random.Random(seed)
        self.now = START_MS
        self.step_ms = step_ms
        self.sites = sites
        self.recent: list[Visitor] = []
        self.sent: list[Event] = []  # that may be sent again
        self.visitors = [self._visitor() for _ in range(visitors)]
        self.pages = {site: [self._page(site) for _ in range(max(2, pages // sites))] for site in range(1, sites + 1)}
        self.weights = {
            site: list(accumulate(1 / (n + 1) for n in range(len(pages)))) for site, pages in self.pages.items()
        }

    def _visitor(self) -> Visitor:
        r = self.random
        agent = r.choice(AGENTS[:4] * 8 + AGENTS[4:]).format(v=r.randint(90, 140), d=r.randint(0, 9))
        return Visitor(
            r.choices(range(1, self.sites + 1), [site**-0.8 for site in range(1, self.sites + 1)])[0],
            f"{r.getrandbits(64):016x}",
            agent,
            r.choice(["en-US,en;q=0.9", "de-DE,de;q=0.9", "fr", "", "ja-JP", "xx,zh-hant-tw", "es-419,es;q=0.9"]),
            address(r),
            f"user{r.randint(1, 30)}@corp.example" if r.random() < 0.2 else "",
            r.choice(["1920x1080", "390x844", "412x915"]),
        )

    def _page(self, site: int) -> tuple[str, str]:
        r = self.random
        slug = "-".join(r.choices(WORDS, k=3))
        url = f"https://www.site{site}.example/{r.choice(WORDS)}/{slug}-{r.randint(1, 999)}.html"
        more = []
        if r.random() < 0.35:
            more.append(f"{r.choice(['color', 'page', 'customer', 'sort'])}={r.choice(['red', '2', 'price+asc'])}")
        if r.random() < 0.12:
            more += ["utm_source=newsletter", "utm_medium=email", f"utm_campaign={r.choice(WORDS[:4])}"]
        if r.random() < 0.04:
            more.append(f"sid={r.getrandbits(64):x}")
        if r.random() < 0.03:
            more += [f"q={r.choice(WORDS)}", f"cat={r.choice(WORDS)}"]
        if r.random() < 0.03:
            more.append(f"cmp={r.choice(WORDS)}")
        url += "?" + "&".join(more) if more else ""
        return url + ("#part-2?x=1" if r.random() < 0.03 else ""), " ".join(r.choices(WORDS, k=4))

    def query(self, visitor: Visitor) -> str:
        """One request of a visitor, some 25 parameters."""
        r = self.random
        kind = r.random()
        pages, weights = self.pages[visitor.site], self.weights[visitor.site]
        url, title = r.choices(pages, cum_weights=weights)[0]
        if r.random() < 0.08:
            url += ("&" if "?" in url else "?") + f"gclid={r.getrandbits(160):x}"
        out = [f"idsite={visitor.site}", "rec=1", f"r={r.randint(100000, 999999)}"]
        second = self.now // 1000
        out += [f"h={second // 3600 % 24}", f"m={second // 60 % 60}", f"s={second % 60}", "url=" + q(url)]
        if kind < 0.75:
            out.insert(0, "action_name=" + q(title))
        if r.random() < 0.6:
            out.append("urlref=" + q(r.choice([*REFERRERS, r.choice(pages)[0]])))
        if visitor.user and r.random() < 0.7:
            out.append("uid=" + q(visitor.user))
        out += ["_id=" + (visitor.number if r.random() < 0.8 else ""), "_idn=0", "_refts=0"]
        if kind < 0.70:
            out += [f"pf_net={r.randint(0, 90)}", f"pf_srv={r.randint(1, 900)}", f"pf_tfr={r.randint(0, 200)}"]
            out += [f"pf_dm1={r.randint(10, 3000)}", f"pf_dm2={r.randint(10, 3000)}", f"pf_onl={r.randint(0, 60)}"]
        elif kind < 0.80:
            out += [
                f"e_c={r.choice(['Video', 'Form'])}",
                "e_a=play",
                f"e_n=Clip+{r.randint(1, 300)}",
                "e_v=2.5",
                "ca=1",
            ]
        elif kind < 0.84:
            out.append("link=" + q(f"https://out{r.randint(1, 50)}.example.net/?user=a&fbclid=1"))
        elif kind < 0.86:
            out.append("download=" + q(f"https://www.site{visitor.site}.example/files/{r.randint(1, 90)}.pdf"))
        elif kind < 0.90:
            out.append("ping=1")
        elif kind < 0.93:
            out += ["search=" + q(r.choice(WORDS)), "search_cat=Shop", f"search_count={r.randint(0, 80)}"]
        elif kind < 0.95:
            out += [f"idgoal={r.randint(1, 9)}", f"revenue={r.randint(1, 500)}"]
        elif kind < 0.97:
            items = [[f"SKU{r.randint(1, 400)}", r.choice(WORDS), "cat", r.randint(100, 9999) / 100, r.randint(1, 4)]]
            out += ["idgoal=0", f"ec_id=ORD{r.getrandbits(40)}", "revenue=17.5", "ec_st=10", "ec_tx=2.5", "ec_sh=5"]
            out.append("ec_items=" + q(json.dumps(items * r.randint(1, 3), separators=(",", ":"))))
        else:
            out += [f"c_n=Banner+{r.randint(1, 60)}", "c_p=img.png", "c_t=" + q("https://x.example/land")]
        out += [f"pv_id={r.getrandbits(30):06x}"[:12], f"res={visitor.resolution}"]
        if "Chrome/" in visitor.agent and r.random() < 0.9:
            brand = {"brand": "Chromium", "version": visitor.agent[-20:-17]}
            out.append("uadata=" + q(json.dumps({"brands": [brand], "mobile": False, "platform": "Windows"})))
        out += ["pdf=1", "qt=0", "realp=0", "wma=0", "fla=0", "java=0", "ag=0", "cookie=1"]
        return "&".join(out)

    def event(self, odd: float = 0.0, again: float = 0.0) -> Event:
        """The next event; with probability `odd` one that nobody expects, with `again` one that came before."""
        r = self.random
        self.now += r.randint(0, 2 * self.step_ms)
        if self.sent and r.random() < again:
            sent = r.choice(self.sent)
            moved = r.choice([0, 0, -1_000, -899_000, -900_001, -5_000_000])
            return msgspec.structs.replace(sent, received_ms=self.now + moved)
        if self.recent and r.random() < 0.55:
            visitor = r.choice(self.recent)
        else:
            visitor = r.choice(self.visitors)
            self.recent = [*self.recent[-199:], visitor]
        received, flags, query = self.now, 0, ""
        site = visitor.site
        if r.random() < odd:
            query = r.choice(ODD)
            site = r.choice([visitor.site, 1, 1, 0, 999])
            flags = r.choice([0, 0, 0, Flag.OPT_OUT, Flag.PREFETCH, Flag.CONSENT, Flag.DNT, Flag.DATA_SAVER])
            late = [0, -400_000, -1_799_999, -1_800_000, -1_800_001, -86_400_000, 60_000, 10**12, -(10**15), 2**62]
            received += r.choice([0, 0, 0, *late])
        else:
            query = self.query(visitor)
        event = Event(
            received_ms=received,
            site=site,
            address=visitor.address if r.random() < 0.9 else address(r),
            role=r.choice([0, 0, 2, 4]) if odd else 0,
            flags=int(flags),
            agent=visitor.agent,
            language=visitor.language,
            hints=r.choice(["", "", '{"brands":"HeadlessChrome"}']) if odd else "",
            query=parameters.safe(query.encode()),
        )
        if again:
            told = r.choice([b"", b"", Repeat.KEY, Repeat.BODY, Repeat.BODY, b"?", b"K short"])
            if told:
                event.repeat = told + (b"%02d" % r.randrange(20)) * 8 if len(told) == 1 else told
                event.items, event.index = r.choice([(1, 0), (3, r.randrange(3))])
                event.query = event.query.replace("&r=", "&x=" if r.random() < 0.8 else "&rand=", 1)
            self.sent = [*self.sent[-11:], event]
        return event

    def records(
        self,
        policy: bytes,
        count: int,
        *,
        partitions: int = 1,
        size: int = 20,
        odd: float = 0.0,
        trouble: float = 0.0,
        again: float = 0.0,
        writer: int = 7,
    ) -> list[Record]:
        """`count` packets of about `size` events; with probability `trouble` one comes again, or is none."""
        r = self.random
        seqs: dict[int, int] = {}
        offsets: dict[int, int] = {}
        out: list[Record] = []
        while len(out) < count:
            partition = r.randrange(partitions)
            if out and r.random() < trouble:
                old = r.choice(out)
                broken = old.value[: r.randrange(len(old.value) + 1)]
                value, partition = r.choice([old.value, b"", b"noise", broken]), old.partition
            else:
                seq = seqs.get(partition, -1) + 1
                seqs[partition] = seq
                events = [self.event(odd, again) for _ in range(r.randint(1, 2 * size - 1))]
                value = packets.encode(writer + partition, seq, 1, policy, events)
            offset = offsets.get(partition, -1) + 1
            offsets[partition] = offset
            appended = self.now + r.choice([0, 5, 200])
            out.append(Record(partition, offset, 1, appended, value))
        return out


def fresh(records: Sequence[Record]) -> dict[int, PartitionState]:
    """Empty states for the partitions of the records."""
    return {record.partition: PartitionState() for record in records}


def one(events: Sequence[Event], policy: bytes, seq: int = 0, *, appended_ms: int = 2**42) -> Record:
    """A record of a single packet on partition 0, its offset its seq."""
    return Record(0, seq, 1, appended_ms, packets.encode(1, seq, 1, policy, events))


def simple(query: str, *, at_ms: int = START_MS, site: int = 1, **more: object) -> Event:
    """An event with a query string and nothing remarkable else."""
    values: Mapping[str, object] = {
        "received_ms": at_ms,
        "site": site,
        "address": b"\0" * 10 + b"\xff\xff" + bytes([81, 2, 69, 160]),
        "role": 0,
        "flags": 0,
        "agent": "Mozilla/5.0 (X11; Linux x86_64; rv:99.0) Gecko/20100101 Firefox/99.0",
        "language": "de",
        "hints": "",
        "query": query,
    } | more
    return Event(**values)  # type: ignore[arg-type]
