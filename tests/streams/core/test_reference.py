"""The columnar worker and the per-event reference give the same rows, whatever comes."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas import parameters
from schemas.packets import Event
from schemas.reasons import Repeated
from streams import batch, reference
from streams.batch import Record
from streams.caches import caches
from streams.describe import PARAMETERS
from streams.enrich.campaigns import PARAMETERS as CAMPAIGN_PARAMETERS
from tests.streams.core.compare import differences, run
from tests.streams.core.traffic import BASE, ODD, START_MS, Traffic, one, policy_set, simple, world

POLICIES = policy_set()
VERSION = POLICIES.version


def both(records: list[Record], size: int = 1000) -> list[tuple[object, ...]]:
    batches = [records[start : start + size] for start in range(0, len(records), size)]
    return differences(run(batches, world(POLICIES)), run(batches, world(POLICIES), reference.process))


@pytest.mark.parametrize("seed", range(4))
def test_generated_traffic(seed: int) -> None:
    assert both(Traffic(seed).records(VERSION, 40, partitions=3, trouble=0.1), 13) == []


@pytest.mark.parametrize("seed", range(4))
def test_traffic_with_odd_events_late_times_and_bad_packets(seed: int) -> None:
    records = Traffic(seed, visitors=6, step_ms=60_000).records(VERSION, 40, partitions=2, odd=0.4, trouble=0.2)
    assert both(records, 7) == []


@pytest.mark.parametrize("seed", range(12))
def test_traffic_with_repeats_in_any_cut(seed: int) -> None:
    r = random.Random(seed)
    traffic = Traffic(seed, visitors=8, step_ms=r.choice([500, 5_000, 60_000]))
    records = traffic.records(VERSION, 50, partitions=2, size=8, odd=0.1, trouble=0.1, again=0.4)
    looked_up = world(POLICIES), world(POLICIES)
    cuts = sorted(r.sample(range(1, len(records)), 8))
    batches = [records[a:b] for a, b in zip([0, *cuts], [*cuts, len(records)], strict=True)]
    ours = run(batches, looked_up[0])
    assert differences(ours, run(batches, looked_up[1], reference.process)) == []
    dropped = {reason: sum(row[f"repeats_{reason}"] for row in ours["packets"]) for reason in Repeated}
    assert min(dropped.values()) > 0
    assert looked_up[0].lookups


def test_every_odd_request_alone_and_beside_the_others() -> None:
    events = [simple(parameters.safe(text.encode())) for text in ODD]
    together = run([[one(events, VERSION)]], world(POLICIES))
    assert differences(together, run([[one(events, VERSION)]], world(POLICIES), reference.process)) == []
    for number, event in enumerate(events):
        alone = one([event], VERSION, seq=number, appended_ms=START_MS)
        assert both([alone]) == [], ODD[number]


NAMES = sorted(
    {*PARAMETERS, "zz", "hsr_text", "fa_x", "unknown", ""} - (CAMPAIGN_PARAMETERS - {"utm_campaign", "mtm_source"})
)
TRICKY = """
1 0 -1 01 +1 0x10 1_0 1e3 . -. 99999999999999999999 null nan inf -86400 2147483648 1920x1080
%31 %2B1 %zz % %E9 %F0%9F%98%80 %00 %0A %ED%A0%80 + ++a a+b
76d1f50cbfda087a 76D1F50CBFDA087A0 abcdef mailto%3Ax https%3A%2F%2F
https%3A%2F%2Fu%3Ap%40www.site1.example%2Fa%3Fgclid%3D1%26q%3Db%26utm_campaign%3Dc%23d%3Fsid%3D1
https%3A%2F%2Fwww.google.com%2Fsearch%3Fq%3Dx 1794913000 1794913000.5 2026-11-17+01%3A02%3A03 20261117T010203Z
http%3A%2F%2Fsemalt.com %2F%2Fhost%2Fpath Googlebot x %5B%5B%22s%22%2C%22n%22%2C%22c%22%2C1%2C2%5D%5D
%7B%22a%22%3A%22headless%22%7D
"""
VALUES = st.one_of(
    st.sampled_from(TRICKY.split()),
    st.text(st.sampled_from("0123456789abcdefx+-.%&=;?#/:@ é\0\n"), max_size=30),
    st.text(max_size=12),
)
PAIRS = st.lists(st.tuples(st.sampled_from(NAMES), VALUES, st.booleans()), max_size=12)


def query(pairs: list[tuple[str, str, bool]]) -> str:
    text = "&".join(f"{name}={value}" if equals else name for name, value, equals in pairs)
    return parameters.safe(text.encode("utf-8", "replace"))


QUERIES = st.one_of(PAIRS.map(query), PAIRS.map(lambda pairs: BASE + "&" + query(pairs)))
EVENTS = st.builds(
    Event,
    received_ms=st.one_of(st.integers(START_MS - 4_000_000, START_MS + 4_000_000), st.integers(-(2**63), 2**63 - 1)),
    site=st.sampled_from([1, 1, 2, 3, 4, 5, 0, 2**32 - 1]),
    address=st.one_of(
        st.binary(min_size=16, max_size=16),
        st.binary(min_size=4, max_size=4).map(lambda b: b"\0" * 10 + b"\xff\xff" + b),
    ),
    role=st.integers(0, 4),
    flags=st.sampled_from([0, 0, 0, 1, 4, 8, 32, 128, 256]),
    agent=st.one_of(st.sampled_from(["", "curl/8", "Mozilla/5.0 (iPad)"]), st.text(max_size=30)),
    language=st.one_of(st.sampled_from(["", "de", "en-US,en;q=0.9", "(x) fr"]), st.text(max_size=30)),
    hints=st.sampled_from(["", "{", '{"brands":["HeadlessChrome"]}']),
    query=QUERIES,
    repeat=st.sampled_from([b"", b"", b"K" + bytes(16), b"B" + bytes(16), b"K", b"?" * 17]),
    items=st.sampled_from([1, 2, 2**32 - 1]),
    index=st.sampled_from([0, 1, 2**32 - 1]),
)


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.lists(EVENTS, min_size=1, max_size=8), min_size=1, max_size=4))
def test_fuzzed_batches(packets: list[list[Event]]) -> None:
    records = [one(events, VERSION, seq, appended_ms=START_MS + seq) for seq, events in enumerate(packets)]
    assert both(records, 2) == []


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 140))
def test_fuzzed_queries_by_seed(seed: int) -> None:
    r = random.Random(seed)
    chars = "0123456789abcdefx+-.%&=;?#/:@[]\"'<> é\u200b\0"
    texts = []
    for _ in range(300):
        pairs = [
            (
                r.choice(NAMES),
                r.choice([r.choice(ODD), "".join(r.choices(chars, k=r.randint(0, 40)))]),
                r.random() < 0.9,
            )
            for _ in range(r.randint(0, 20))
        ]
        texts.append(BASE + "&" + query(pairs))
    assert both([one([simple(text) for text in texts], VERSION, appended_ms=START_MS)]) == []


def test_result_does_not_depend_on_what_the_caches_hold() -> None:
    records = Traffic(9).records(VERSION, 20, odd=0.3)
    warm = run([records], world(POLICIES))
    again = run([records], world(POLICIES))
    caches.cache_clear()
    cold = run([records], world(POLICIES))
    assert differences(warm, cold) == []
    assert differences(again, cold) == []


def test_reference_is_not_the_worker() -> None:
    assert batch.process is not reference.process
