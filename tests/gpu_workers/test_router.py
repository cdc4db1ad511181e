from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from gpu_workers.inputs import regular_file
from gpu_workers.router import DEFAULT, Cost, Table, TableError, Work, cheapest, load, stored, work
from gpu_workers.video import open_video
from gpu_workers.worker import table
from infra.service.settings import Settings
from schemas.videos import Engine
from tests.clips import small
from tests.gpu_workers.conftest import LIMITS


@pytest.mark.parametrize(
    ("wanted", "engine"),
    [  # seconds seen: cpu 0.13, cuda 0.21; cpu 0.80, cuda 0.66; cpu 2.10, cuda 1.69 (tests/gpu/RESULTS.md)
        (Work("h264", False, True, 300 * 0.2304), Engine.CPU),
        (Work("h264", False, True, 300 * 2.0736), Engine.CUDA),
        (Work("h264", False, True, 900 * 2.0736), Engine.CUDA),
        (Work("h264", False, False, 900 * 2.0736), Engine.CPU),  # keyframes alone
        (Work("hevc", False, True, 300 * 2.0736), Engine.CUDA),  # 1.04, 0.36
        (Work("hevc", True, True, 150 * 8.2944), Engine.CUDA),  # 3.10, 0.68
        (Work("hevc", True, True, 30 * 0.04), Engine.CPU),  # 0.03, 0.28
        (Work("h264", True, True, 900 * 2.0736), Engine.CPU),
        (Work("av1", False, True, 900 * 2.0736), Engine.CPU),
    ],
)
def test_the_engine_is_the_one_that_was_seen_to_be_faster(wanted: Work, engine: Engine) -> None:
    assert cheapest(wanted) is engine


def test_work_is_all_frames_of_a_short_video(tmp_path: Path) -> None:
    clip = small(tmp_path / "clip.mp4", seconds=2.0, size="320x240", rate=25)
    with regular_file(str(clip), None, LIMITS) as file, open_video(file, LIMITS) as video:
        wanted = work(video, [0.0, 1.0])
    assert (wanted.codec, wanted.deep, wanted.every) == ("h264", False, True)
    assert wanted.megapixels == pytest.approx(50 * 0.0768, rel=0.05)


def test_work_is_the_keyframes_of_a_long_one(media: Path) -> None:
    clip = media / "long_1080p_lowbitrate.mp4"
    if not clip.is_file():
        pytest.skip("the clip is not there")
    with regular_file(str(clip), None, LIMITS) as file, open_video(file, LIMITS) as video:
        wanted = work(video, [float(second) for second in range(100)])
    assert not wanted.every
    assert wanted.megapixels == pytest.approx(100 * 2.0736)


def test_a_stored_table_decides(tmp_path: Path) -> None:
    path = tmp_path / "router.json"
    path.write_bytes(stored(DEFAULT))
    assert load(path) == DEFAULT
    long = Work("h264", False, True, 900 * 2.0736)
    slow = Table(
        "another",
        "2026-01-01",
        tuple(
            msgspec.structs.replace(cost, begin=99.0) if cost.engine is Engine.CUDA else cost for cost in DEFAULT.costs
        ),
    )
    assert (cheapest(long, DEFAULT), cheapest(long, slow)) == (Engine.CUDA, Engine.CPU)
    assert cheapest(long, Table("without a GPU", "2026-01-01", (DEFAULT.costs[0],))) is Engine.CPU


@pytest.mark.parametrize(
    "damage",
    [
        stored(DEFAULT)[:-20],
        b"",
        b"[]",
        stored(DEFAULT).replace(b"0.0012", b"-0.0012"),
        stored(DEFAULT).replace(b'"cuda"', b'"abacus"'),
        stored(DEFAULT).replace(b'"deep"', b'"depth"'),
        stored(Table("a", "b", (DEFAULT.costs[0],) * 2)),
    ],
)
def test_a_damaged_table_is_refused_by_name(damage: bytes, tmp_path: Path) -> None:
    path = tmp_path / "router.json"
    path.write_bytes(damage)
    with pytest.raises(TableError, match=r"router\.json.*bench crossover"):
        load(path)


def test_a_worker_takes_the_table_of_its_settings(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path)
    assert table(settings) == DEFAULT
    other = Table("another", "2026-01-01", (Cost("h264", False, Engine.CPU, 0.1, 0.1),))
    (tmp_path / "router.json").write_bytes(stored(other))
    assert table(settings) == other
    with pytest.raises(TableError, match=r"named\.json.*no such table"):
        table(Settings(state=tmp_path, video_router_table=tmp_path / "named.json"))
