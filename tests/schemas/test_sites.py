"""Site files: what is right is taken, what is wrong is named."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from schemas.packets import Role
from schemas.privacy import Privacy
from schemas.sites import REVISION, PolicySet, SitePolicy, SitesError, load_sites
from schemas.tokens import token_hash


def test_site_over_default(tmp_path: Path) -> None:
    (tmp_path / "default.toml").write_text('timezone = "Asia/Tokyo"\n[privacy]\nmask_bytes = 3\nkeep_fragment = true\n')
    (tmp_path / "7.toml").write_text(
        f'name = "Shop"\ndomains = ["B.example", "a.example"]\n[tokens]\n{token_hash("secret")} = "write"\n'
        "[privacy]\nmask_bytes = 1\n"
    )
    site = load_sites(tmp_path).by_id[7]
    assert site.policy.timezone == "Asia/Tokyo"
    assert site.policy.privacy.mask_bytes == 1
    assert site.policy.privacy.keep_fragment
    assert site.policy.domains == ("a.example", "b.example")
    assert (site.role("secret"), site.role("Secret")) == (Role.WRITE, Role.NONE)


@pytest.mark.parametrize(
    "domain", ["shop.example", "*.shop.example", "my_host", "a.example:81/en", "[::1]:80", "10.1.2.3", "localhost"]
)
def test_what_names_a_host(tmp_path: Path, domain: str) -> None:
    (tmp_path / "1.toml").write_text(f'domains = ["{domain}"]')
    assert load_sites(tmp_path).by_id[1].policy.domains == (domain,)


def test_exclusions_of_a_site_stand_over_those_of_all(tmp_path: Path) -> None:
    (tmp_path / "default.toml").write_text('[exclusions]\nkeep_bots = true\nexcluded_agents = ["b", "a"]\n')
    (tmp_path / "1.toml").write_text("goals = [7, 2]")
    (tmp_path / "2.toml").write_text(
        'domains = ["Shop.example/en"]\n[exclusions]\nexclude_unknown_urls = true\nexcluded_agents = []\n'
        'excluded_addresses = ["10.1.2.*", "::1"]\nexcluded_requests = ["e_c==x,a!@b"]\n'
        '[privacy]\nexcluded_parameters = ["/^X\\\\d/", "Y"]\n'
    )
    one, two = (load_sites(tmp_path).by_id[site].policy for site in (1, 2))
    assert (one.keep_bots, one.excluded_agents, one.goals) == (True, ("a", "b"), (2, 7))
    assert (two.keep_bots, two.excluded_agents, two.exclude_unknown_urls) == (True, (), True)
    assert two.excluded_addresses == ("10.1.2.*", "::1")
    assert two.domains == ("shop.example/en",)
    assert two.privacy.excluded_parameters == ("/^X\\d/", "y")


def test_campaign_parameters_and_excluded_referrers_of_a_site_stand_over_those_of_all(tmp_path: Path) -> None:
    (tmp_path / "default.toml").write_text(
        'excluded_referrers = ["Pay.example", "*.bank.example"]\n[campaign_parameters]\nname = ["CMP", "c2", "cmp"]\n'
    )
    (tmp_path / "1.toml").write_text("")
    (tmp_path / "2.toml").write_text('excluded_referrers = []\n[campaign_parameters]\nterm = ["kw"]\nname = []\n')
    one, two = (load_sites(tmp_path).by_id[site].policy for site in (1, 2))
    assert one.excluded_referrers == ("*.bank.example", "pay.example")
    assert one.campaign_parameters == {"name": ("cmp", "c2")}
    assert (two.excluded_referrers, two.campaign_parameters) == ((), {"name": (), "term": ("kw",)})
    assert PolicySet.load(PolicySet({1: one, 2: two}).dump()).sites == {1: one, 2: two}


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("2.toml", 'excluded_referrers = ["http://x.example/"]', "2.toml.*excluded_referrers"),
        ("2.toml", '[campaign_parameters]\nkeyword = ["k"]', "2.toml.*campaign_parameters.keyword.*term"),
        ("2.toml", '[campaign_parameters]\nname = ["a=b"]', "2.toml.*campaign_parameters.name"),
        ("2.toml", "nme = 1", "2.toml.*nme"),
        ("2.toml", 'timezone = "Mars/Base"', "2.toml.*timezone"),
        ("2.toml", 'timezone = "../etc/passwd"', "2.toml.*timezone"),
        ("2.toml", 'domains = ["http://x.example/"]', "2.toml.*domains"),
        ("2.toml", '[tokens]\nab = "view"', "2.toml.*tokens"),
        ("2.toml", f'[tokens]\n{"a" * 64} = "none"', "2.toml.*role"),
        ("2.toml", "[privacy]\nmask_bytes = 9", "2.toml.*mask_bytes"),
        ("2.toml", "shards = 0", "2.toml.*shards"),
        ("2.toml", "shards = {2027-01-01 = 1025}", "2.toml.*shards.*1024"),
        ("2.toml", "shards = {soon = 2}", "2.toml: shards.soon must be a date"),
        ("2.toml", "repeat_seconds = 3601", "2.toml.*repeat_seconds"),
        ("2.toml", "repeat_seconds = -1", "2.toml.*repeat_seconds"),
        ("2.toml", "goals = [0]", "2.toml.*goals"),
        ("2.toml", '[[goals]]\nid = 1\non = "url"', "2.toml.*goals.*goal 1.*pattern"),
        ("2.toml", '[[goals]]\nid = 1\non = "page"\npattern = "x"', "2.toml.*goals"),
        ("2.toml", '[[goals]]\nid = 1\npattern = "x"', "2.toml.*goals.*goal 1.*outlink"),
        ("2.toml", "[[goals]]\nid = 1\n[[goals]]\nid = 1", "2.toml.*goals.*1 twice"),
        ("2.toml", "[[goals]]\nid = 1\nrevenue = -1", "2.toml.*goals.*revenue"),
        ("2.toml", '[[goals]]\nid = 1\non = "url"\npattern = "x"\nevent_value = true', "2.toml.*event_value"),
        ("2.toml", '[[goals]]\nid = 1\non = "url"\nmatch = "regex"\npattern = "("', "2.toml.*regular expression"),
        ("2.toml", '[exclusions]\nexcluded_addresses = ["10.0.0.300"]', "2.toml.*excluded_addresses.*10.0.0.300"),
        ("2.toml", '[exclusions]\nexcluded_agents = ["/(/"]', "2.toml.*excluded_agents.*regular expression"),
        ("2.toml", '[exclusions]\nexcluded_agents = [""]', "2.toml.*excluded_agents.*empty"),
        ("2.toml", '[exclusions]\nexcluded_requests = ["e_c=Test"]', "2.toml.*excluded_requests.*e_c=Test"),
        ("2.toml", '[exclusions]\nexcluded_requests = ["fa_x==1"]', "2.toml.*excluded_requests.*fa_"),
        ("2.toml", "[exclusions]\nexclude_unknown_urls = true", "2.toml.*exclude_unknown_urls.*domains"),
        ("2.toml", '[privacy]\nexcluded_parameters = ["/[/"]', "2.toml.*excluded_parameters.*regular expression"),
        ("2.toml", "x", "2.toml.*TOML"),
        ("2.toml", "x = " + "[" * 5000, "2.toml.*TOML"),
        ("2.toml", "shards = " + "9" * 5000, "2.toml.*TOML"),
        ("2.toml", 'main_url = "shop.example"', "2.toml: main_url.*https://"),
        ("2.toml", f'[tokens]\n{"a" * 64} = {{role = "view", expires = 2027-01-31}}', "2.toml"),
        (
            "2.toml",
            f'[tokens]\n{"a" * 64} = {{role = "view", expires = 2027-01-31T00:00:00}}',
            "2.toml.*expires.*offset",
        ),
        ("superusers.toml", f'[tokens]\n{"a" * 64} = "write"', "superusers.toml.*superuser"),
        ("superusers.toml", 'name = "x"', "superusers.toml.*name"),
        ("9999999999.toml", "", "9999999999.toml.*id"),
        ("\u0663.toml", "", "\u0663.toml.*id"),
        ("0.toml", "", "0.toml.*id"),
        ("01.toml", "", "01.toml.*id"),
        ("shop.toml", "", "shop.toml.*id"),
        ("default.toml", 'name = "x"', "default.toml.*name"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, file: str, text: str, message: str) -> None:
    (tmp_path / "1.toml").write_text("")
    (tmp_path / file).write_text(text)
    with pytest.raises(SitesError, match=message):
        load_sites(tmp_path)


def test_bytes_that_are_no_utf8(tmp_path: Path) -> None:
    (tmp_path / "1.toml").write_bytes(b'name = "\xff"')
    with pytest.raises(SitesError, match=r"1\.toml.*UTF-8"):
        load_sites(tmp_path)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(SitesError, match="no such folder"):
        load_sites(tmp_path / "missing")


def test_version_names_what_is_in_force_and_nothing_else() -> None:
    a = PolicySet({2: SitePolicy(privacy=Privacy(mask_bytes=3)), 1: SitePolicy(domains=("x.example",))})
    b = PolicySet({1: SitePolicy(domains=("x.example",)), 2: SitePolicy(privacy=Privacy(mask_bytes=3))})
    assert a.version == b.version == PolicySet.load(a.dump()).version
    older = PolicySet(a.sites, REVISION - 1)
    assert older.version != a.version
    assert (PolicySet.load(older.dump()).revision, PolicySet.load(a.dump()).revision) == (REVISION - 1, REVISION)
    assert (PolicySet.load(b'{"1":{}}').revision, PolicySet.load(b'{"1":{}}').sites) == (0, {1: SitePolicy()})
    assert len(a.version) == 16
    assert a.version != PolicySet({1: SitePolicy(domains=("x.example",))}).version


def test_a_record_that_is_no_set_is_refused() -> None:
    with pytest.raises(SitesError):
        PolicySet.load(b'{"1": {"mask_bits": 2}}')


def test_the_window_of_repeats_is_the_sites_or_the_default(tmp_path: Path) -> None:
    (tmp_path / "1.toml").write_text("")
    assert load_sites(tmp_path).policies.repeat_seconds == 900
    (tmp_path / "default.toml").write_text("repeat_seconds = 60")
    (tmp_path / "2.toml").write_text("repeat_seconds = 0")
    sites = load_sites(tmp_path)
    assert [site.policy.repeat_seconds for site in sites.by_id.values()] == [60, 0]
    assert sites.policies.repeat_seconds == 60
    assert PolicySet({}).repeat_seconds == 0


def test_a_set_keeps_its_name_when_policies_have_more_fields_than_it_says() -> None:
    """Packets in the log name the set as it was written, by an older version too."""
    data = b'{"1":{"timezone":"UTC"}}'
    found = PolicySet.load(data)
    assert found.dump() == data
    assert found.version == hashlib.blake2b(data, digest_size=16).digest()
    assert found.of(1) == SitePolicy()
