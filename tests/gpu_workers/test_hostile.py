"""Files that are damaged, or made to hurt: every one ends as a reason of the closed list, and nothing else happens."""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from pathlib import Path

import msgspec
import pytest

from gpu_workers.failures import Failure
from schemas.videos import Poster, Reason
from tests.clips import ffmpeg, small
from tests.gpu_workers.conftest import LIMITS, Maker


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A good clip, its index at the end."""
    return small(tmp_path / "clip.mp4")


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """A file with sound only."""
    path = tmp_path / "sound.m4a"
    ffmpeg("-f", "lavfi", "-i", "sine=d=1", "-c:a", "aac", path)
    return path


def reason(thumbnails: Maker, out: Path, path: Path, **given: object) -> Reason:
    """Why a file gives no thumbnails; and it has left nothing behind."""
    with pytest.raises(Failure) as caught:
        thumbnails(path, **given)
    assert str(path) not in str(caught.value)
    assert not list(out.rglob("*.*"))
    return caught.value.reason


def test_no_file_a_folder_a_pipe_a_socket_a_device(tmp_path: Path, thumbnails: Maker, out: Path) -> None:
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    assert reason(thumbnails, out, tmp_path / "none.mp4") is Reason.NOT_FOUND
    assert reason(thumbnails, out, tmp_path / ("x" * 5000)) is Reason.NOT_FOUND
    assert reason(thumbnails, out, tmp_path / "zero\0byte") is Reason.NOT_FOUND
    assert reason(thumbnails, out, tmp_path) is Reason.NOT_A_FILE
    assert reason(thumbnails, out, pipe) is Reason.NOT_A_FILE
    assert reason(thumbnails, out, Path("/dev/zero")) is Reason.NOT_A_FILE


def test_links_lead_out_of_the_folder_in_vain(clip: Path, tmp_path: Path, thumbnails: Maker, out: Path) -> None:
    folder = tmp_path / "videos"
    (folder / "sub").mkdir(parents=True)
    inside = folder / "sub" / "inside.mp4"
    inside.write_bytes(clip.read_bytes())
    (folder / "out.mp4").symlink_to(clip)
    (folder / "up").symlink_to(tmp_path)
    (folder / "in.mp4").symlink_to(inside)
    (folder / "loop.mp4").symlink_to(folder / "loop.mp4")
    for name in ("out.mp4", "up/clip.mp4", "../clip.mp4"):
        assert reason(thumbnails, out, folder / name, folder=folder) is Reason.NOT_ALLOWED
    assert reason(thumbnails, out, folder / "loop.mp4", folder=folder) is Reason.NOT_FOUND
    assert thumbnails(folder / "in.mp4", Poster(), folder=folder).outputs


def test_a_playlist_leads_nowhere(clip: Path, tmp_path: Path, thumbnails: Maker, out: Path) -> None:
    lists = {
        "list.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{clip}\n#EXT-X-ENDLIST\n",
        "list.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{clip}\n#EXT-X-ENDLIST\n",
        "list.ffconcat": f"ffconcat version 1.0\nfile {clip}\n",
        "list.txt": f"file '{clip}'\n",
        "list.sdp": "v=0\nm=video 5000 RTP/AVP 96\n",
        "list.mpd": f'<?xml version="1.0"?><MPD><Period><BaseURL>{clip}</BaseURL></Period></MPD>',
    }
    for name, text in lists.items():
        path = tmp_path / name
        path.write_text(text)
        assert reason(thumbnails, out, path) is Reason.UNSUPPORTED_FORMAT, name


def png(width: int, height: int) -> bytes:
    """A small file that says that it is a huge picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100_000)))


def test_a_picture_is_no_video(tmp_path: Path, thumbnails: Maker, out: Path) -> None:
    bomb = tmp_path / "bomb.mp4"
    bomb.write_bytes(png(60_000, 60_000))
    assert reason(thumbnails, out, bomb) is Reason.UNSUPPORTED_FORMAT


@pytest.mark.parametrize("ending", ["mkv", "mov"])
def test_a_picture_bomb_in_a_container_is_refused_by_its_size(
    ending: str, tmp_path: Path, thumbnails: Maker, out: Path
) -> None:
    image, bomb = tmp_path / "image.png", tmp_path / f"bomb.{ending}"
    ffmpeg("-f", "lavfi", "-i", "color=red:s=64x64", "-frames:v", "1", image)
    ffmpeg("-framerate", "1", "-i", image, "-c", "copy", bomb)
    # The picture itself says 60,000 by 60,000, and so does the container where it repeats it.
    data = bomb.read_bytes()
    assert b"IHDR" in data
    start = data.index(b"IHDR") + 4
    header = struct.pack(">II", 60_000, 60_000) + data[start + 8 : start + 13]
    data = data[:start] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + data[start + 17 :]
    bomb.write_bytes(data)
    assert reason(thumbnails, out, bomb) in (Reason.TOO_MANY_PIXELS, Reason.DAMAGED)


def test_limits_of_an_installation(clip: Path, tmp_path: Path, thumbnails: Maker, out: Path) -> None:
    def limited(**changed: float) -> object:
        return msgspec.structs.replace(LIMITS, **changed)

    assert reason(thumbnails, out, clip, limits=limited(pixels=160 * 119)) is Reason.TOO_MANY_PIXELS
    assert reason(thumbnails, out, clip, limits=limited(seconds=1.5)) is Reason.TOO_LONG
    assert reason(thumbnails, out, clip, limits=limited(bytes=1000)) is Reason.TOO_LARGE
    both = tmp_path / "both.mkv"
    ffmpeg("-i", clip, "-f", "lavfi", "-i", "sine=d=1", "-map", "0", "-map", "1", "-c:v", "copy", both)
    assert reason(thumbnails, out, both, limits=limited(streams=1)) is Reason.TOO_MANY_STREAMS
    assert thumbnails(both, Poster(), limits=limited(pixels=160 * 120, streams=2)).outputs


def test_frames_that_grow_beyond_the_limit_are_not_decoded(tmp_path: Path, thumbnails: Maker) -> None:
    first, second = small(tmp_path / "a.ts", size="64x64"), small(tmp_path / "b.ts", size="640x480")
    grows = tmp_path / "grows.ts"
    grows.write_bytes(first.read_bytes() + second.read_bytes())
    made = thumbnails(grows, Poster(), limits=msgspec.structs.replace(LIMITS, pixels=64 * 64))
    assert (made.source.width, made.source.height) == (64, 64)


def test_sound_alone_and_sound_with_cover_art_have_no_video(
    sound: Path, tmp_path: Path, thumbnails: Maker, out: Path
) -> None:
    cover, covered = tmp_path / "cover.png", tmp_path / "covered.m4a"
    ffmpeg("-f", "lavfi", "-i", "color=red:s=64x64", "-frames:v", "1", cover)
    ffmpeg(
        "-i", sound, "-i", cover, "-map", "0", "-map", "1", "-c", "copy", "-disposition:v:0", "attached_pic", covered
    )
    assert reason(thumbnails, out, sound) is Reason.NO_VIDEO
    assert reason(thumbnails, out, covered) is Reason.NO_VIDEO


def test_files_that_are_none_or_cut_off_or_overwritten(
    clip: Path, tmp_path: Path, thumbnails: Maker, out: Path
) -> None:
    data = clip.read_bytes()
    bad = tmp_path / "bad.mp4"

    def of(content: bytes) -> Reason:
        bad.write_bytes(content)
        return reason(thumbnails, out, bad)

    assert of(b"") is Reason.UNSUPPORTED_FORMAT
    assert of(b"hello, this is no video\n" * 1000) is Reason.UNSUPPORTED_FORMAT
    assert of(os.urandom(100_000)) is Reason.UNSUPPORTED_FORMAT
    assert of(data[: len(data) // 2]) is Reason.DAMAGED  # the index at the end is gone
    index = data.index(b"moov") - 4
    start = data.index(b"mdat") + 4
    assert start < index
    assert of(data[:start] + bytes(index - start) + data[index:]) is Reason.DAMAGED  # the pictures are gone


def test_what_is_left_of_a_clip_that_was_cut_off_is_used(tmp_path: Path, thumbnails: Maker) -> None:
    whole = small(tmp_path / "clip.mp4", "-movflags", "faststart", "-g", "10", seconds=4)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    made = thumbnails(cut)
    assert made.outputs[0].time < 3
    assert made.source.duration == pytest.approx(4.0)


def test_bytes_that_flip_anywhere_end_in_an_answer(clip: Path, tmp_path: Path, thumbnails: Maker) -> None:
    data = bytearray(clip.read_bytes())
    bad = tmp_path / "bad.mp4"
    for place in range(5, len(data), len(data) // 40):
        flipped = bytearray(data)
        flipped[place : place + 4] = bytes(byte ^ 0xFF for byte in flipped[place : place + 4])
        bad.write_bytes(flipped)
        with contextlib.suppress(Failure):  # all else is an error of ours
            assert thumbnails(bad, Poster()).outputs
