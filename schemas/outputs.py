"""What can be made of a video, and what was made.

What is wanted is a list of the structs of `Wanted`, told apart by `kind`. Names of files depend on the wanted output
alone. Widths are pixels: a picture is as wide as asked for, or as wide as the video where that is less. Times are
seconds of the presentation.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

POSTER_WIDTH = 1280
TILE_WIDTH = 160
MOST_TILES = 100  # of a storyboard's sheet
MOST_SHEETS = 10
MOST_STILLS = 100  # files of one wanted output
MOST_OUTPUTS = 16

Width = Annotated[int, msgspec.Meta(ge=16, le=4096)]
TileWidth = Annotated[int, msgspec.Meta(ge=16, le=320)]
PreviewWidth = Annotated[int, msgspec.Meta(ge=16, le=640)]  # its pictures are in memory all at once
Tiles = Annotated[int, msgspec.Meta(ge=1, le=MOST_TILES * MOST_SHEETS)]
Stills = Annotated[int, msgspec.Meta(ge=1, le=MOST_STILLS)]
Moment = Annotated[float, msgspec.Meta(ge=0, le=1e6)]
Change = Annotated[float, msgspec.Meta(gt=0, le=1)]


class Kind(StrEnum):
    """What an output is."""

    POSTER = "poster"  # the best frame
    FRAME = "frame"  # one of several frames, or that of a time asked for
    SCENE = "scene"  # the first frame of a scene
    STORYBOARD = "storyboard"  # a sheet: a grid of tiles
    WEBVTT = "webvtt"  # which tile to show when
    TILES = "tiles"  # the same as JSON
    BIF = "bif"  # the tiles in one file (Roku's Base Index Frames)
    HLS = "hls"  # the sheets as an image playlist of HTTP Live Streaming
    PREVIEW = "preview"  # a short animation


class Format(StrEnum):
    """Of a picture."""

    JPEG = "jpeg"
    WEBP = "webp"
    AVIF = "avif"
    PNG = "png"

    @property
    def ending(self) -> str:
        """Of a file's name."""
        return "jpg" if self is Format.JPEG else self.value


class Animation(StrEnum):
    """Of a preview; the value is the ending of the file's name too."""

    WEBP = "webp"
    GIF = "gif"
    MP4 = "mp4"


class Rule(StrEnum):
    """By what a poster's frame is chosen."""

    BEST = "best"  # gpu_workers.choice
    THUMBNAIL = "thumbnail"  # FFmpeg's filter of that name, over the first hundred frames


class Index(StrEnum):
    """What tells the tiles of a storyboard."""

    WEBVTT = "webvtt"
    JSON = "json"
    BIF = "bif"
    HLS = "hls"


class Poster(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="poster"):
    """One frame that stands for the video."""

    width: Width = POSTER_WIDTH
    format: Format = Format.JPEG
    rule: Rule = Rule.BEST

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return f"poster-{self.width}" + ("" if self.rule is Rule.BEST else f"-{self.rule}")

    @property
    def identity(self) -> str:
        """What no other output of a job may have."""
        return f"{self.name}.{self.format.ending}"


class Frames(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="frames"):
    """`count` frames spread evenly over the video; fewer where it has fewer."""

    count: Stills = 10
    width: Width = 640
    format: Format = Format.JPEG

    @property
    def name(self) -> str:
        """What the files' names begin with."""
        return f"frames-{self.width}"

    @property
    def identity(self) -> str:
        """What no other output of a job may have."""
        return f"{self.name}.{self.format.ending}"


class At(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="at"):
    """The frames on screen at these times; after its end a video shows its last frame."""

    times: Annotated[tuple[Moment, ...], msgspec.Meta(min_length=1, max_length=MOST_STILLS)]
    width: Width = 640
    format: Format = Format.JPEG

    @property
    def name(self) -> str:
        """What the files' names begin with."""
        return f"at-{self.width}"

    @property
    def identity(self) -> str:
        """What no other output of a job may have."""
        return f"{self.name}.{self.format.ending}"


class Scenes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="scenes"):
    """The first frames of scenes, `most` of them: those that differ most. `change`: how much, of all that can."""

    most: Stills = 20
    width: Width = 640
    format: Format = Format.JPEG
    change: Change = 0.1

    @property
    def name(self) -> str:
        """What the files' names begin with."""
        return f"scenes-{self.width}"

    @property
    def identity(self) -> str:
        """What no other output of a job may have."""
        return f"{self.name}.{self.format.ending}"


class Storyboard(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="storyboard"):
    """Sheets of MOST_TILES at most, with `tiles` frames in all spread over the video, each `width` pixels wide, and
    what tells which tile to show when."""

    width: TileWidth = TILE_WIDTH
    tiles: Tiles = MOST_TILES
    format: Format = Format.JPEG
    index: tuple[Index, ...] = (Index.WEBVTT, Index.JSON)

    @property
    def name(self) -> str:
        """The files' name without its ending."""
        return f"storyboard-{self.width}"

    @property
    def identity(self) -> str:
        """What no other output of a job may have."""
        return self.name


class Preview(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="preview"):
    """A silent animation of so many seconds, pieces from all over the video."""

    width: PreviewWidth = 320
    format: Animation = Animation.WEBP
    seconds: Annotated[float, msgspec.Meta(ge=0.5, le=10)] = 3.0
    rate: Annotated[int, msgspec.Meta(ge=1, le=25)] = 8  # pictures a second

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return f"preview-{self.width}"

    @property
    def identity(self) -> str:
        """What no other output of a job may have."""
        return f"{self.name}.{self.format}"


Wanted = Poster | Frames | At | Scenes | Storyboard | Preview
DEFAULT_OUTPUTS: tuple[Wanted, ...] = (Poster(), Storyboard())


class Score(msgspec.Struct, frozen=True):
    """Why a frame is the poster (gpu_workers.choice): what it is worth in all, its parts, and the reason for which it
    would have been passed over, had there been another; "" if none."""

    value: float
    vetoed: str
    detail: float
    sharpness: float
    colourfulness: float
    typicality: float


class About(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is told of a single picture: its most common `colour` (#rrggbb), a `placeholder` (BlurHash), and of a
    poster the `score` of its frame."""

    score: Score | None = None
    placeholder: str = ""
    colour: str = ""


class Output(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file that was made. `path` is relative to the output folder; `width` and `height` are pixels of a picture or of
    a whole sheet, for what tells tiles of one tile; `time` is that of the (first) frame shown. The rest as in About."""

    kind: Kind
    path: str
    width: int
    height: int
    time: float
    score: Score | None = None
    placeholder: str = ""
    colour: str = ""

    @property
    def about(self) -> About:
        """What is told beyond place and size."""
        return About(self.score, self.placeholder, self.colour)


# Of outputs, by the ending of the name.
CONTENT_TYPES = {
    "jpg": "image/jpeg",
    "webp": "image/webp",
    "avif": "image/avif",
    "png": "image/png",
    "gif": "image/gif",
    "mp4": "video/mp4",
    "vtt": "text/vtt; charset=utf-8",
    "json": "application/json",
    "bif": "application/octet-stream",
    "m3u8": "application/vnd.apple.mpegurl",
}


def doubled(outputs: tuple[Wanted, ...]) -> int | None:
    """The place of the first output whose files an earlier one has already; None when all are different."""
    names = [output.identity for output in outputs]
    return next((n for n, name in enumerate(names) if name in names[:n]), None)
