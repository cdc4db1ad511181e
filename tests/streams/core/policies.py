"""Random privacy policies, and requests that hold what every rule is about."""

from __future__ import annotations

import random
from enum import Enum
from typing import Any, get_origin
from urllib.parse import quote

import msgspec

from schemas.packets import Event, Flag, Role
from schemas.privacy import PRESETS, Detector, Privacy, resolve
from schemas.sites import PolicySet, SitePolicy
from tests.streams.core.traffic import Traffic, q

LISTS = {
    "allowed_parameters": ["color", "page", "customer", "sort"],
    "excluded_parameters": ["customer", "/^so/", "page"],
    "excluded_lists": ["sessions", "personal"],
    "detectors": [str(kind) for kind in Detector],
    "masked_paths": ["/*", "/world/*", "/*/*"],
    "search_parameters": ["q", "page"],
    "search_category_parameters": ["cat", "sort"],
}


def privacy(r: random.Random) -> Privacy:
    """A policy of a random preset with a random half of its rules set by the site."""
    table: dict[str, Any] = {"preset": r.choice(sorted(PRESETS))}
    for field in msgspec.structs.fields(Privacy):
        if field.name in ("preset", "with_consent", "children") or r.random() < 0.5:
            continue
        if field.name in LISTS:
            table[field.name] = r.sample(LISTS[field.name], r.randint(0, len(LISTS[field.name])))
        elif field.name == "dimensions":
            table[field.name] = {str(slot): r.choice(["drop", "day", "site", "keep"]) for slot in (1, 2, 999)}
        elif field.name == "mask_bytes":
            table[field.name] = r.randint(0, 5)
        elif field.type is bool:
            table[field.name] = r.random() < 0.5
        elif isinstance(field.type, type) and issubclass(field.type, Enum):
            table[field.name] = r.choice([str(value) for value in field.type])
        else:
            assert get_origin(field.type) is None, field.name
    table["children"] = r.random() < 0.05
    consent = table.get("consent", PRESETS[table["preset"]].get("consent", "ignored"))
    table["with_consent"] = r.choice(["", *PRESETS]) if consent == "aware" else ""
    found, _ = resolve({"": table})
    return found


def policy_set(seed: int, sites: int = 5) -> PolicySet:
    """Sites 1 to `sites` with random policies."""
    r = random.Random(seed)
    zones = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"]
    made = {
        site: SitePolicy(
            timezone=zones[site % 5],
            domains=(f"*.shop{site}.example", f"www.site{site}.example", "www.site1.example/a") if site % 3 else (),
            campaign_parameters={"name": ("color",)} if r.random() < 0.2 else {},
            privacy=privacy(r),
        )
        for site in range(1, sites + 1)
    }
    return PolicySet(made)


PERSONAL = (
    *("jo@corp.example", "jo%40corp.example", "+49 30 123456", "DE89370400440532013000", "4111 1111 1111 1111"),
    *("9f1c2d9f1c2d9f1c2d9f1c2d9f1c2d9f", "86095742719", "81.2.69.142", "a4:5c:00:11:22:33", "/user/jo"),
    "am9AYy5leGFtcGxl",
)
FIELDS = (
    *("url", "action_name", "urlref", "link", "download", "search", "search_cat", "utm_campaign", "mtm_kwd", "city"),
    *("e_c=a&e_a=b&e_n", "e_a=b&e_c", "c_n", "c_n=a&c_t", "c_n=a&c_p", "dimension1", "dimension2"),
)


class Told(Traffic):
    """Traffic whose requests also hold custom fields, places, consent, forced ids and signals of refusal, and values of
    persons in any field."""

    def query(self, visitor: Any) -> str:
        r = self.random
        out = [super().query(visitor)]
        if r.random() < 0.3:
            out.append(
                f"dimension{r.choice(['1', '2', '7', '999', '0', '1000', '01'])}=" + q(r.choice(["a b", "", " é"]))
            )
            out.append("dimension2=" + q(f"https://x.example/?customer={r.randint(1, 9)}&color=1"))
        if r.random() < 0.3:
            name = r.choice(["cvar", "_cvar", "e_cvar"])
            out.append(
                f"{name}=" + quote(r.choice(['{"1":["k","v"],"9":["x","y"],"2":["",1]}', "[]", "{", '{"5":[1,2.5]}']))
            )
        if r.random() < 0.3:
            out.append(f"country={r.choice(['de', 'FR', '??', ''])}&region={r.choice(['be', '???'])}&city=K%C3%B6ln")
        if r.random() < 0.5:
            out.append(f"consent={r.choice(['0', '1', '1', 'x', ''])}")
        if r.random() < 0.05:
            out.append("cid=0123456789abcdef")
        if r.random() < 0.4:
            value = quote(r.choice(PERSONAL), safe="")
            out.append(f"{r.choice(FIELDS)}={r.choice(['', 'by+', quote('https://www.site1.example/p?page=')])}{value}")
        if r.random() < 0.05:
            out.append("idgoal=0&ec_items=" + quote(f'[["sku {r.choice(PERSONAL)}","for {r.choice(PERSONAL)}"]]'))
        return "&".join(out)

    def event(self, odd: float = 0.0, again: float = 0.0) -> Event:
        r = self.random
        event = super().event(odd, again)
        flags = event.flags | r.choice([0] * 8 + [Flag.DNT, Flag.GPC, Flag.CONSENT, Flag.COOKIE_CONSENT])
        return msgspec.structs.replace(event, flags=int(flags), role=int(r.choice([Role.NONE, Role.VIEW, Role.WRITE])))
