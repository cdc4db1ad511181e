"""Places as site files name them, and whose a page is among the sites of an installation."""

from __future__ import annotations

import pytest

from schemas.sites import PolicySet, SitePolicy
from streams.domains import Domains
from streams.rules import Rules

PLACES = Domains(
    ["www.shop.example/en", "shop.example/en/old/", "*.wild.example", "port.example:81", "*.w.example/a", "[::1]"]
)


@pytest.mark.parametrize(
    ("host", "path", "depth"),
    [
        ("shop.example", "/en", 4),
        ("www.shop.example:8080", "/EN/a", 4),
        ("shop.example", "/en/old/x", 8),
        ("shop.example", "/english", 0),
        ("shop.example", "", 0),
        ("a.shop.example", "/en", 0),
        ("wild.example", "", 1),
        ("a.b.wild.example", "/x", 1),
        ("notwild.example", "/x", 0),
        ("[::1]:80", "/", 1),
        ("[::2]", "/", 0),
        ("port.example:81", "/", 1),
        ("port.example", "/", 0),
        ("b.w.example", "/a/b", 3),
        ("b.w.example", "/b", 0),
    ],
)
def test_how_deep_a_place_holds_a_page(host: str, path: str, depth: int) -> None:
    assert PLACES.depth(host, path) == depth


def test_no_places_hold_nothing() -> None:
    assert not Domains(())
    assert Domains(()).depth("shop.example", "/") == 0


def folder_of(rules: Rules, host: str, path: str) -> str:
    return rules.neighbour(host, path, rules.domains.depth(host, path))


def test_the_folder_of_another_site_is_not_ones_own_unless_ones_own_is_as_deep() -> None:
    policies = PolicySet(
        {
            1: SitePolicy(domains=("www.shop.example", "shop.example/en/old/mine")),
            2: SitePolicy(domains=("shop.example/EN/old".lower(), "shop.example/en", "*.shop.example/x")),
            3: SitePolicy(domains=("shop.example/en",)),
            4: SitePolicy(domains=("*.example",)),
        }
    )
    one, two, three, four = (Rules.of(site, policies.sites[site], policies.folders) for site in (1, 2, 3, 4))
    assert folder_of(one, "www.shop.example:443", "/En/old/x") == "shop.example/en/old"
    assert folder_of(one, "shop.example", "/en/old/mine/x") == folder_of(one, "shop.example", "/fr") == ""
    assert folder_of(two, "shop.example", "/en/old/x") == folder_of(two, "shop.example", "/en/x") == ""
    assert folder_of(three, "shop.example", "/en/x") == ""
    assert folder_of(three, "shop.example", "/en/old/x") == "shop.example/en/old"
    assert folder_of(four, "shop.example", "/en/") == "shop.example/en"
    assert policies.folders == {"shop.example": ("/en/old/mine/", "/en/old/", "/en/")}
