"""Pictures as files: colours as other programs decode them, nothing in them but pixels, the same bytes every time."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from gpu_workers import golden, placeholder
from gpu_workers.difference import delta_e
from gpu_workers.images import animate, encode
from schemas.outputs import Animation, Format, Poster, Preview
from tests.clips import Picture, ffmpeg, load, small
from tests.gpu_workers.conftest import Maker

MEAN, WORST = 2.0, 3.5  # CIE 1976
FORMATS = list(Format)


def decoded(path: Path) -> Picture:
    """An image by another decoder than that of the library which wrote it."""
    if path.suffix == ".avif":  # Debian's ffmpeg does not know it
        with av.open(str(path)) as container:
            return np.asarray(next(container.decode(video=0)).to_ndarray(format="rgb24"), np.uint8)
    size = Image.open(path).size
    raw = ffmpeg("-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-sws_flags", "accurate_rnd+full_chroma_int", "-")
    return np.frombuffer(raw, np.uint8).reshape(size[1], size[0], 3)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("golden")
    made = {}
    for number, clip in enumerate(golden.CLIPS):
        made[clip.name] = folder / f"{number}.mp4"
        golden.write(clip, made[clip.name])
    return made


@pytest.mark.parametrize("name", [clip.name for clip in golden.CLIPS])
def test_24_patches_have_their_colours_in_every_format(
    name: str, clips: dict[str, Path], thumbnails: Maker, out: Path
) -> None:
    thumbnails(clips[name], *(Poster(format=form) for form in FORMATS))
    for form in FORMATS:
        path = out / f"poster-1280.{form.ending}"
        for seen in (load(path), decoded(path)):
            apart = delta_e(golden.middles(seen), np.array(golden.PATCHES, np.uint8)[:, None])
            assert apart.mean() <= MEAN, form
            assert apart.max() <= WORST, form


@pytest.mark.parametrize("form", FORMATS)
def test_a_picture_is_pixels_and_nothing_else(form: Format, tmp_path: Path, thumbnails: Maker, out: Path) -> None:
    tags = ("-metadata", "title=Anna", "-metadata", "location=+52.5+013.4/", "-metadata", "comment=secret")
    thumbnails(small(tmp_path / "clip.mp4", *tags), Poster(format=form), Preview())
    for path in out.iterdir():
        content = path.read_bytes()
        assert not any(word in content for word in (b"Anna", b"secret", b"+52.5", b"Exif", b"http://ns.adobe.com"))
        with Image.open(path) as image:
            assert not image.getexif()
            assert not {"exif", "xmp", "comment", "XML:com.adobe.xmp"} & set(image.info)


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_picture_is_the_same_file(form: Format) -> None:
    picture = np.random.default_rng(3).integers(0, 255, (90, 160, 3), np.uint8)
    assert encode(picture, form) == encode(picture, form)


def counted(rate: int) -> list[Picture]:
    return [np.full((36, 64, 3), 20 * number, np.uint8) for number in range(rate)]


@pytest.mark.parametrize("rate", [3, 8, 25])
@pytest.mark.parametrize("form", list(Animation))
def test_an_animation_shows_every_picture_for_its_time(form: Animation, rate: int, tmp_path: Path) -> None:
    """By other decoders: ffmpeg, and for WebP, which that does not animate, Pillow's."""
    pictures = counted(10)
    path = tmp_path / f"preview.{form.value}"
    path.write_bytes(animate(pictures, rate, form))
    assert path.read_bytes() == animate(pictures, rate, form)
    if form is Animation.WEBP:
        with Image.open(path) as image:
            assert getattr(image, "n_frames", 1) == 10
            lasting, seen = 0, []
            for number in range(10):
                image.seek(number)
                seen.append(float(np.asarray(image.convert("RGB")).mean()))
                lasting += image.info["duration"]
        assert lasting == round(10_000 / rate)
    else:
        raw = ffmpeg("-i", path, "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
        seen = [float(frame.mean()) for frame in np.frombuffer(raw, np.uint8).reshape(10, -1)]
        probe = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", str(path)]
        assert float(subprocess.check_output(probe)) == pytest.approx(10 / rate, abs=0.011)
    assert seen == pytest.approx([20 * number for number in range(10)], abs=4)


def test_a_preview_in_mp4_begins_with_its_index_and_says_its_colours(tmp_path: Path) -> None:
    path = tmp_path / "preview.mp4"
    path.write_bytes(animate(counted(5), 5, Animation.MP4))
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_range, context.pix_fmt) == (1, 1, "yuv420p")


def test_a_blurhash_is_the_picture_seen_from_afar() -> None:
    """Decoded by the formula of its specification."""
    across = np.linspace(0, 255, 64).astype(np.uint8)
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[..., 0], picture[..., 2] = across, across[::-1]
    seen = shown(placeholder.blurhash(picture), 64, 48)
    assert np.abs(seen.astype(int) - picture.astype(int)).mean() < 20
    assert seen[:, 2, 2].mean() > 180 > 90 > seen[:, 2, 0].mean()
    assert placeholder.blurhash(np.full((5, 5, 3), (10, 200, 30), np.uint8))[2:6] == base_83(10 << 16 | 200 << 8 | 30)


def base_83(value: int) -> str:
    return "".join(placeholder.DIGITS[value // 83**place % 83] for place in (3, 2, 1, 0))


def shown(text: str, width: int, height: int) -> Picture:
    def number(part: str) -> int:
        value = 0
        for letter in part:
            value = value * 83 + placeholder.DIGITS.index(letter)
        return value

    def light(code: float) -> float:
        return code / 12.92 if code <= 0.04045 else ((code + 0.055) / 1.055) ** 2.4

    columns, rows = number(text[0]) % 9 + 1, number(text[0]) // 9 + 1
    most, mean = (number(text[1]) + 1) / 166, number(text[2:6])
    total = np.zeros((height, width, 3))
    for place in range(columns * rows):
        if place == 0:
            colour = np.array([light((mean >> shift & 255) / 255) for shift in (16, 8, 0)])
        else:
            code = number(text[4 + 2 * place : 6 + 2 * place])
            steps = np.array([code // 361, code // 19 % 19, code % 19]) - 9.0
            colour = np.sign(steps) * (steps / 9) ** 2 * most
        x = np.cos(np.pi * (place % columns) * np.arange(width) / width)
        y = np.cos(np.pi * (place // columns) * np.arange(height) / height)
        total += np.outer(y, x)[..., None] * colour
    total = np.clip(total, 0, 1)
    srgb = np.where(total <= 0.0031308, total * 12.92, 1.055 * total ** (1 / 2.4) - 0.055)
    return np.asarray(srgb * 255 + 0.5).astype(np.uint8)


def test_the_most_common_colour_is_told() -> None:
    picture = np.full((40, 60, 3), (30, 60, 200), np.uint8)
    picture[:, :20] = (250, 250, 250)
    assert placeholder.colour(picture) == "#1e3cc8"


def test_what_pillow_writes_it_reads() -> None:
    picture = counted(2)[1]
    for form in FORMATS:
        with Image.open(io.BytesIO(encode(picture, form))) as image:
            assert image.size == (64, 36)
            assert image.mode == "RGB"
