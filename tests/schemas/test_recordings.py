"""Recordings in a site's file: off unless it says so, and selectors that mean what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.recordings import UNMASK, Recordings, selector
from schemas.sites import PolicySet, SitesError, load_sites


def test_a_site_takes_none_unless_a_file_says_so_and_its_own_goes_first(tmp_path: Path) -> None:
    (tmp_path / "1.toml").write_text("")
    assert load_sites(tmp_path).by_id[1].policy.recordings == Recordings(False, 1.0, UNMASK)
    (tmp_path / "default.toml").write_text("[recordings]\nenabled = true\nshare = 0.5\n")
    (tmp_path / "2.toml").write_text('[recordings]\nenabled = false\nunmask = [".b", ".a", ".b"]\n')
    sites = load_sites(tmp_path)
    assert sites.by_id[1].policy.recordings == Recordings(True, 0.5)
    assert sites.by_id[2].policy.recordings == Recordings(False, 0.5, (".a", ".b"))
    again = PolicySet.load(sites.policies.dump())
    assert again.version == sites.policies.version
    assert again.sites == sites.policies.sites


def test_a_childrens_site_takes_none_whatever_a_file_says(tmp_path: Path) -> None:
    (tmp_path / "default.toml").write_text("[recordings]\nenabled = true\n")
    (tmp_path / "1.toml").write_text("[recordings]\nenabled = true\n[privacy]\nchildren = true\n")
    (tmp_path / "2.toml").write_text("")
    sites = load_sites(tmp_path)
    assert [sites.by_id[number].policy.recordings.enabled for number in (1, 2)] == [False, True]


def test_policies_of_before_recordings_take_none() -> None:
    found = PolicySet.load(b'{"1":{"timezone":"UTC"}}')
    assert not found.sites[1].recordings.enabled


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("share = 0", "share must be above 0"),
        ("share = 1.5", "share must be above 0"),
        ('unmask = ["div > p"]', "must be a tag"),
        ('unmask = ["", "p"]', "must be a tag"),
        ('unmask = ["[a=b c]"]', "must be a tag"),
        ("sample = 1", "sample"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "1.toml").write_text(f"[recordings]\n{text}\n")
    with pytest.raises(SitesError, match=rf"(?s)1\.toml.*{named}"):
        load_sites(tmp_path)


@pytest.mark.parametrize(
    ("text", "tag", "attributes", "meant"),
    [
        ("p", "p", {}, True),
        ("P", "p", {}, True),
        ("p", "div", {}, False),
        (".a.b", "p", {"class": "b c a"}, True),
        (".a.b", "p", {"class": "a"}, False),
        ("#x", "p", {"id": "x"}, True),
        ("#x", "p", {"id": "xy"}, False),
        ("main.wide[data-open=yes]", "main", {"class": "wide", "data-open": "yes"}, True),
        ("[data-open=yes]", "p", {"data-open": "no"}, False),
        ("[data-matomo-unmask]", "p", {"data-matomo-unmask": ""}, True),
    ],
)
def test_selectors(text: str, tag: str, attributes: dict[str, object], meant: bool) -> None:
    assert selector(text).matches(tag, attributes) is meant
