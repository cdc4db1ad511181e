"""Some eighty hostile files through one decoder in its own process: each ends in pictures or a typed error, the process
lives on without growing, nothing reaches for the network or another file, and nothing is left half written."""

from __future__ import annotations

import os
import random
import socket
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from gpu_workers.failures import Failure
from gpu_workers.inputs import Limits
from gpu_workers.storage import DRAFT
from gpu_workers.supervisor import Decoder
from gpu_workers.thumbnails import Task
from schemas.outputs import Poster, Storyboard
from schemas.videos import Reason
from tests.clips import ffmpeg, small

LIMITS = Limits(bytes=64 << 20, pixels=4096 * 2304, seconds=7200.0, streams=16)
OUTPUTS = (Poster(width=320), Storyboard(width=64, tiles=9))
MEMORY = 2 << 30
GROWTH = 96 << 20  # bytes that one process may gain from the whole set
SECRET = b"this is in another file"

Make = Callable[[Path, Path], None]  # the folder, and the file to be made in it


def damaged(name: str, change: Callable[[bytearray], bytes]) -> Make:
    """What becomes of a good clip."""

    def make(folder: Path, path: Path) -> None:
        path.write_bytes(change(bytearray((folder / name).read_bytes())))

    return make


def cut(tenths: int) -> Callable[[bytearray], bytes]:
    return lambda data: bytes(data[: len(data) * tenths // 10])


def flipped(seed: int, bits: int) -> Callable[[bytearray], bytes]:
    def change(data: bytearray) -> bytes:
        chance = random.Random(seed)
        for _ in range(bits):
            place = chance.randrange(len(data))
            data[place] ^= 1 << chance.randrange(8)
        return bytes(data)

    return change


def text(content: str) -> Make:
    """A playlist, a script or a description; {other} is another file, {port} a port of this machine."""

    def make(folder: Path, path: Path) -> None:
        other = folder / "good.mp4"
        port = int((folder / "port").read_text())
        path.write_text(content.replace("{other}", str(other)).replace("{port}", str(port)))

    return make


def boxes(size: int) -> Make:
    """An MP4 whose boxes claim more than there is."""

    def make(folder: Path, path: Path) -> None:
        data = bytearray((folder / "good.mp4").read_bytes())
        for kind in (b"stsz", b"stts", b"stco", b"stsc"):
            if (place := data.find(kind)) > 0:
                data[place + 8 : place + 16] = struct.pack(">II", size, size)
        path.write_bytes(bytes(data))

    return make


def nested(folder: Path, path: Path) -> None:
    inner = b""
    for _ in range(20_000):
        inner = struct.pack(">I4s", len(inner) + 8 & 0xFFFFFFFF, b"moov") + inner[:64]
    path.write_bytes(struct.pack(">I4s4sI4s", 20, b"ftyp", b"isom", 0, b"isom") + inner * 100)


def many_streams(folder: Path, path: Path) -> None:
    maps = [part for _ in range(40) for part in ("-map", "0:v")]
    ffmpeg("-i", folder / "good.mp4", *maps, "-c", "copy", path)


def large(width: int, height: int) -> Make:
    """A clip whose track says that it is so large."""

    def make(folder: Path, path: Path) -> None:
        data = bytearray((folder / "good.mp4").read_bytes())
        place = data.index(b"avc1") + 28
        data[place : place + 4] = struct.pack(">HH", width, height)
        path.write_bytes(bytes(data))

    return make


def picture_bomb(folder: Path, path: Path) -> None:
    """A PNG in Matroska that says 60,000 by 60,000."""
    image = folder / "bomb.png"
    ffmpeg("-f", "lavfi", "-i", "color=red:s=64x64", "-frames:v", "1", image)
    ffmpeg("-framerate", "1", "-i", image, "-c", "copy", path)
    data = path.read_bytes()
    start = data.index(b"IHDR") + 4
    header = struct.pack(">II", 60_000, 60_000) + data[start + 8 : start + 13]
    path.write_bytes(data[:start] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + data[start + 17 :])


def long(folder: Path, path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "color=red:s=16x16:r=0.001:d=9000", "-c:v", "libx264", "-fps_mode", "passthrough", path)


def gap(folder: Path, path: Path) -> None:
    """Two frames a hundred days apart."""
    source = "color=red:s=16x16:r=1:d=2,setpts='N*8640000/TB'"
    ffmpeg("-f", "lavfi", "-i", source, "-c:v", "libx264", "-fps_mode", "passthrough", path)


def sizes(folder: Path, path: Path) -> None:
    """A stream whose frames grow."""
    content = b""
    for number, size in enumerate(("64x64", "320x240", "1280x720", "4096x2160", "64x64")):
        part = folder / f"part{number}.ts"
        ffmpeg("-f", "lavfi", "-i", f"testsrc2=s={size}:r=5:d=0.4", "-c:v", "libx264", "-preset", "ultrafast", part)
        content += part.read_bytes()
    path.write_bytes(content)


def link(target: str) -> Make:
    def make(folder: Path, path: Path) -> None:
        path.symlink_to(target.replace("{folder}", str(folder)))

    return make


def written(content: bytes) -> Make:
    return damaged("good.mp4", lambda _: content)


def pipe(folder: Path, path: Path) -> None:
    os.mkfifo(path)


def sound_only(folder: Path, path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "sine=d=1", "-c:a", "aac", path)


def external(folder: Path, path: Path) -> None:
    """A QuickTime file whose samples lie in another file."""
    ffmpeg("-i", folder / "good.mp4", "-c", "copy", path)
    data = bytearray(path.read_bytes())
    place = data.index(b"url \x00\x00\x00\x01")
    data[place : place + 8] = b"alis\x00\x00\x00\x00"
    path.write_bytes(bytes(data))


M3U8 = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n%s\n#EXT-X-ENDLIST\n"
DASH = '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><BaseURL>%s</BaseURL></Period></MPD>'
HTTP = "http://127.0.0.1:{port}/x"

SET: dict[str, Make] = {
    **{f"cut-mp4-{n}.mp4": damaged("good.mp4", cut(n)) for n in range(10)},
    **{f"cut-front-{n}.mp4": damaged("front.mp4", cut(n)) for n in range(1, 10)},
    **{f"cut-mkv-{n}.mkv": damaged("good.mkv", cut(n)) for n in range(1, 10)},
    **{f"cut-ts-{n}.ts": damaged("good.ts", cut(n)) for n in range(1, 10, 2)},
    **{f"flip-mp4-{seed}.mp4": damaged("good.mp4", flipped(seed, 40)) for seed in range(10)},
    **{f"flip-mkv-{seed}.mkv": damaged("good.mkv", flipped(seed, 40)) for seed in range(8)},
    **{f"flip-webm-{seed}.webm": damaged("good.webm", flipped(seed, 40)) for seed in range(6)},
    **{f"flip-hevc-{seed}.mp4": damaged("hevc.mp4", flipped(seed, 40)) for seed in range(4)},
    "hls.m3u8": text(M3U8 % "{other}"),
    "hls.mp4": text(M3U8 % "file://{other}"),
    "hls-http.mp4": text(M3U8 % HTTP),
    "hls-http.m3u8": text(M3U8 % HTTP),
    "concat.ffconcat": text("ffconcat version 1.0\nfile {other}\n"),
    "concat.mp4": text("ffconcat version 1.0\nfile http://127.0.0.1:{port}/x\n"),
    "concat-protocol.mp4": text("concat:{other}|{other}"),
    "dash.mpd": text(DASH % "{other}"),
    "dash.mp4": text(DASH % HTTP),
    "session.sdp": text("v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n"),
    "smil.mp4": text('<smil><body><video src="http://127.0.0.1:{port}/x"/></body></smil>'),
    "svg.mp4": text('<svg xmlns="http://www.w3.org/2000/svg"><image href="http://127.0.0.1:{port}/x"/></svg>'),
    "subtitles.srt": text("1\n00:00:00,000 --> 00:00:01,000\n{other}\n"),
    "avs.avs": text('AviSource("{other}")\n'),
    "sequence-%03d.mp4": text("no video"),
    "external.mov": external,
    "streams.mkv": many_streams,
    "wide.mp4": large(65535, 65535),
    "wide-one.mp4": large(65535, 1),
    "none.mp4": large(0, 0),
    "bomb.mkv": picture_bomb,
    "long.mkv": long,
    "gap.mkv": gap,
    "sizes.ts": sizes,
    "boxes-large.mp4": boxes(0xFFFFFFFF),
    "boxes-many.mp4": boxes(0x01000000),
    "nested.mp4": nested,
    "zeros.mp4": written(bytes(1 << 20)),
    "empty.mp4": written(b""),
    "one-byte.mp4": written(b"\0"),
    "magic.mp4": written(b"\0\0\0\x18ftypisom" + bytes(64)),
    "magic.mkv": written(b"\x1aE\xdf\xa3" + bytes(64)),
    "noise.mp4": written(random.Random(5).randbytes(300_000)),
    "noise.ts": written(b"".join(b"\x47" + random.Random(n).randbytes(187) for n in range(2000))),
    "noise.avi": written(b"RIFF\xff\xff\xff\x7fAVI LIST" + random.Random(6).randbytes(100_000)),
    "noise.flv": written(b"FLV\x01\x05\0\0\0\x09" + random.Random(7).randbytes(100_000)),
    "link-out.mp4": link("/etc/hostname"),
    "link-loop.mp4": link("{folder}/link-loop.mp4"),
    "link-zero.mp4": link("/dev/zero"),
    "link-proc.mp4": link("/proc/self/environ"),
    "pipe.mp4": pipe,
    "sound.m4a": sound_only,
}
# What is no video at all, or leads elsewhere, is never taken for one.
REFUSED = ("hls", "concat", "dash", "session", "smil", "svg", "subtitles", "avs", "sequence", "link", "noise", "zeros")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("hostile")
    small(made / "good.mp4", "-g", "10", "-pix_fmt", "yuv420p")
    ffmpeg("-i", made / "good.mp4", "-c", "copy", "-movflags", "faststart", made / "front.mp4")
    for name in ("good.mkv", "good.ts"):
        ffmpeg("-i", made / "good.mp4", "-c", "copy", made / name)
    ffmpeg("-i", made / "good.mp4", "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", made / "good.webm")
    ffmpeg("-i", made / "good.mp4", "-c:v", "libx265", "-preset", "ultrafast", made / "hevc.mp4")
    return made


@pytest.fixture(scope="module")
def called(folder: Path) -> Iterator[list[str]]:
    """Whoever connects to the port that hostile files name."""
    found: list[str] = []
    server = socket.create_server(("127.0.0.1", 0))
    (folder / "port").write_text(str(server.getsockname()[1]))

    def listen() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            found.append("tcp")
            connection.close()

    threading.Thread(target=listen, daemon=True).start()
    yield found
    server.close()


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    made = Decoder(MEMORY)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def first(decoder: Decoder, folder: Path) -> tuple[int | None, int]:
    """The decoder's process and its memory, after a good clip."""
    decoder.run(Task(str(folder / "good.mp4"), str(folder), OUTPUTS, str(folder / "out"), "good", LIMITS), 30.0)
    assert decoder.pid is not None
    return decoder.pid, int(psutil.Process(decoder.pid).memory_info().rss)


def test_the_set_is_large_enough() -> None:
    assert len(SET) >= 60


@pytest.mark.parametrize("name", SET)
def test_a_hostile_file_ends_in_pictures_or_a_typed_error(
    name: str, folder: Path, called: list[str], decoder: Decoder, first: tuple[int | None, int]
) -> None:
    path, out = folder / "in" / name, folder / "out" / name
    path.parent.mkdir(exist_ok=True)
    SET[name](folder, path)
    inside = str(path.parent)
    task, reason, said = Task(str(path), inside, OUTPUTS, str(folder / "out"), name, LIMITS), None, ""
    try:
        made = decoder.run(task, 30.0).outputs
    except Failure as failure:
        made, reason, said = (), failure.reason, str(failure)
    path.unlink()
    assert all((folder / "out" / output.path).stat().st_size for output in made)
    assert bool(made) == (reason is None) == bool(list(out.rglob("*.*")))
    assert str(folder) not in said
    assert reason not in (Reason.CRASHED, Reason.INTERNAL_ERROR, Reason.TIME_LIMIT), name
    if name.startswith(REFUSED) and name not in ("noise.ts", "noise.avi", "noise.flv"):
        assert reason is not None
    assert not list(out.rglob(f"*{DRAFT}"))
    assert called == []
    # The same process as before, no larger, with nobody beside it.
    assert decoder.pid == first[0]
    process = psutil.Process(decoder.pid)
    assert process.memory_info().rss < first[1] + GROWTH
    assert process.children() == []
    assert len(process.open_files()) == 0
