"""Stored rows under the rules of today: nothing is kept that the worker would not keep, nothing else changes."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from schemas.privacy import PRESETS, Privacy, resolve
from schemas.sites import PolicySet, SitePolicy
from schemas.tables import EVENTS, VisitorKind
from streams import batch
from streams.anonymize import past
from streams.rules import Rules
from tests.streams.core.compare import plain
from tests.streams.core.policies import Told
from tests.streams.core.policies import policy_set as random_policies
from tests.streams.core.traffic import START_MS, fresh, one, simple, world

KEYS = past.Keys(bytes(range(32)), bytes(16))
NOT_COMPARED = {*past.IDS, *past.VISIT, "policy_version", "parameters_removed"}


def made(policies: PolicySet, seed: int = 1, packets: int = 30) -> pa.Table:
    """The rows that the worker makes of generated traffic."""
    records = Told(seed).records(policies.version, packets, partitions=1, odd=0.3)
    return batch.process(records, fresh(records), world(policies)).events


def of_site(rows: pa.Table, site: int) -> pa.Table:
    return rows.filter(pa.compute.equal(rows["site_id"], site))


def rules(policies: PolicySet, site: int) -> Rules:
    policy = policies.of(site)
    assert policy is not None
    return Rules.of(site, policy, policies.folders)


def row(query: str, **table: Any) -> pa.Table:
    """What the worker stores of one request under these rules."""
    policies = of(**table)
    record = one([simple("idsite=1&rec=1&" + query)], policies.version)
    return batch.process([record], fresh([record]), world(policies)).events


def of(**table: Any) -> PolicySet:
    privacy, _ = resolve({"": table})
    return PolicySet({1: SitePolicy(privacy=privacy, keep_bots=True)})


def today(rows: pa.Table, before: bool = False, **table: Any) -> dict[str, Any]:
    """The one row under these rules."""
    policies = of(**table)
    found = past.anonymise(rows, rules(policies, 1), KEYS, policies.version, rules(policies, 1) if before else None)
    assert found.schema == rows.schema
    only: dict[str, Any] = plain(found)[0]
    return only


@pytest.mark.parametrize("seed", range(6))
def test_what_the_rules_of_today_made_is_left_as_it_is(seed: int) -> None:
    policies = random_policies(seed)
    rows = made(policies, seed)
    changed: Counter[str] = Counter()
    for site in policies.sites:
        old = of_site(rows, site)
        new = past.anonymise(old, rules(policies, site), KEYS, policies.version, rules(policies, site))
        for a, b in zip(plain(old), plain(new), strict=True):
            changed.update(
                f"{name}: {a[name]!r} -> {b[name]!r}"
                for name in a
                if blurred(a[name]) != blurred(b[name]) and name not in NOT_COMPARED
            )
    assert not changed


@pytest.mark.parametrize("seed", range(6))
def test_a_second_run_finds_nothing_left_to_change(seed: int) -> None:
    open_, strict = with_rules("matomo-default", seed), random_policies(seed)
    rows = made(open_, seed)
    assert rows.num_rows > 100
    for site in strict.sites:
        new = past.anonymise(of_site(rows, site), rules(strict, site), KEYS, strict.version)
        assert past.differing(new, rules(strict, site), KEYS) == {}
    assert past.differing(of_site(rows, 1), rules(with_rules("no-personal-data", seed), 1), KEYS)


def blurred(value: object) -> object:
    """Values without what hashes say: they are new with each run."""
    return [re.sub("^[0-9a-f]{16}$", "#", text) for text in map(str, value)] if isinstance(value, list) else value


def with_rules(preset: str, seed: int) -> PolicySet:
    """The sites of a seed, all under one preset."""
    privacy = Privacy(preset=preset, **PRESETS[preset])
    found = random_policies(seed).sites.items()
    return PolicySet({number: msgspec.structs.replace(site, privacy=privacy) for number, site in found})
