"""Dolby Vision: FFmpeg hands its metadata over as a struct, which is written here as its headers have it."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from gpu_workers import dolby_vision
from gpu_workers.dolby_vision import profile_5
from gpu_workers.failures import Failure
from schemas.outputs import Poster
from schemas.videos import Reason
from tests.clips import small
from tests.gpu_workers.conftest import Maker


def metadata(profile: int, full_range: int) -> bytes:
    """AVDOVIMetadata (libavutil/dovi_meta.h): three offsets, then AVDOVIRpuDataHeader."""
    header = struct.pack("@BxHBBBBBBBBBB", 2, 18, profile, 6, 0, 0, 23, 1, full_range, 10, 10, 12)
    return struct.pack("@NNN", 24, 100, 200) + header


def test_profile_5_is_told_from_those_with_a_picture_for_everybody() -> None:
    assert profile_5(metadata(0, 1))
    assert not profile_5(metadata(1, 0))  # 7 and 8
    assert not profile_5(metadata(0, 0))
    assert not profile_5(b"")
    assert not profile_5(metadata(0, 1)[:28])


def test_it_is_refused_by_name(tmp_path: Path, thumbnails: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dolby_vision, "alone", lambda frame: True)
    with pytest.raises(Failure, match="Dolby Vision profile 5") as caught:
        thumbnails(small(tmp_path / "clip.mp4"), Poster())
    assert caught.value.reason is Reason.UNSUPPORTED_CODEC
