"""Times of retention: the site's own before the default's, within bounds, and 0 for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.retention import KINDS, Retention, RetentionError, resolve
from schemas.sites import SitesError, load_sites


def test_the_strongest_table_that_names_a_kind_decides() -> None:
    found, sources = resolve({"1.toml": Retention(events=400), "default.toml": Retention(events=90, rejects=30)})
    assert found == Retention(events=400, rejects=30)
    assert (sources["events"], sources["rejects"]) == ("1.toml", "default.toml")


def test_nothing_is_removed_unless_a_file_says_so_and_0_keeps_what_the_default_would_remove() -> None:
    assert resolve({}) == (Retention(), dict.fromkeys(KINDS, "unless set"))
    found, sources = resolve({"1.toml": Retention(events=0), "default.toml": Retention(events=90)})
    assert (found.events, sources["events"]) == (None, "1.toml")


@pytest.mark.parametrize("days", [-1, 1, 9, 36_501])
def test_a_time_out_of_bounds_is_named(days: int) -> None:
    with pytest.raises(RetentionError, match=r"retention\.rejects must be from 10 to 36500"):
        resolve({"1.toml": Retention(rejects=days)})


@pytest.mark.parametrize("text", ["events = 3", "events = '1 year'", "videos = 30"])
def test_a_wrong_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "1.toml").write_text(f"[retention]\n{text}\n")
    with pytest.raises(SitesError, match=r"1\.toml"):
        load_sites(tmp_path)


def test_retention_is_no_part_of_what_workers_must_know(tmp_path: Path) -> None:
    (tmp_path / "1.toml").write_text("")
    before = load_sites(tmp_path).policies.version
    (tmp_path / "1.toml").write_text("[retention]\nevents = 30\n")
    sites = load_sites(tmp_path)
    assert sites.policies.version == before
    assert sites.by_id[1].retention == Retention(events=30)
