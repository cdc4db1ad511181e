"""What is made of the frames of a video as they go by: a taker for each output that is wanted.

A taker names the times at which it wants frames, takes the shots that come for them, and writes its files at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import heappush, heappushpop
from typing import Protocol

import av.filter
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame

from gpu_workers import choice, placeholder, scenes, storyboard
from gpu_workers.geometry import Size, fit
from gpu_workers.images import animate, encode
from gpu_workers.pictures import fetched, picture
from gpu_workers.storage import Folder
from gpu_workers.video import Shot, Video
from schemas.outputs import (
    MOST_TILES,
    At,
    Format,
    Frames,
    Index,
    Kind,
    Output,
    Poster,
    Preview,
    Rule,
    Scenes,
    Score,
    Storyboard,
    Wanted,
)

KEPT = 256 << 20  # bytes of frames of candidates, the best of which are kept
CHECKED = 4  # candidates that are looked at for transitions
BATCH = 100  # frames that FFmpeg's thumbnail filter looks at
BEYOND = 10.0  # seconds after a video's end at which frames are looked for at most
PIECE = 0.75  # seconds, of a preview

Picture = npt.NDArray[np.uint8]


class Taker(Protocol):
    """`times`: when it wants frames; `exact`: those on screen, whatever they cost."""

    times: Sequence[float]
    exact: bool
    small: Size | None  # frames may come reduced, but not below this size
    served: bool

    def take(self, moment: float, shot: Shot, video: Video) -> None:
        """Takes the shot that stands for a moment of `times`; they rise."""

    def write(self, folder: Folder, video: Video) -> Iterable[Output]:
        """Writes the files; `served` by then."""


def takers(wanted: Sequence[Wanted], video: Video) -> list[Taker]:
    """The takers of outputs, in their order."""
    rules: dict[Rule, _Best | _Classic] = {}
    found: list[Taker] = []
    for output in wanted:
        match output:
            case Poster():
                first = output.rule not in rules
                if first:
                    rules[output.rule] = _Best(video) if output.rule is Rule.BEST else _Classic(video)
                found.append(_PosterTaker(output, video, rules[output.rule], first=first))
            case Frames():
                found.append(_Spread(output, video))
            case At():
                found.append(_AtTimes(output, video))
            case Scenes():
                found.append(_SceneTaker(output, video))
            case Storyboard():
                found.append(_Board(output, video))
            case Preview():
                found.append(_PreviewTaker(output, video))
    return found


def shown(shot: Shot, size: Size, video: Video) -> Picture:
    """The picture of a shot."""
    return picture(shot.frame, size, video.turn, video.coded)


def told(time: float) -> float:
    """A frame's time as it is told."""
    return round(max(time, 0.0), 3)


def _still(kind: Kind, path: str, made: Picture, time: float, score: Score | None = None) -> Output:
    height, width, _ = made.shape
    return Output(
        kind,
        path,
        width,
        height,
        told(time),
        score=score,
        placeholder=placeholder.blurhash(made),
        colour=placeholder.colour(made),
    )


class _Best:
    """The best of candidates from all over the video."""

    exact = False

    def __init__(self, video: Video) -> None:
        self.times: Sequence[float] = choice.times(video.duration)
        self._small = fit(video.shown, choice.WIDTH)
        self._candidates: dict[float, choice.Candidate] = {}
        self._kept: dict[float, Shot] = {}
        self._answer: tuple[Shot, Score | None] | None = None

    def take(self, shot: Shot, video: Video) -> None:
        """Judges a candidate."""
        if shot.time in self._candidates:
            return
        self._candidates[shot.time] = choice.judge(shot.time, shown(shot, self._small, video))
        self._kept[shot.time] = shot
        if len(self._kept) > 1 and len(self._kept) * video.coded[0] * video.coded[1] * 3 > KEPT:
            order = choice.ranked([self._candidates[time] for time in self._kept])
            del self._kept[order[-1].time]

    def best(self, video: Video) -> tuple[Shot, Score | None]:
        """The shot, and why it is."""
        if self._answer is None:
            self._answer = self._chosen(video)
        return self._answer

    def _chosen(self, video: Video) -> tuple[Shot, Score | None]:
        order = choice.ranked(list(self._candidates.values()))
        fine = [candidate for candidate in order if not candidate.score.vetoed]
        at = next((one for one in fine[:CHECKED] if not self._in_transition(one.time, video)), None)
        if at is None:  # what was not looked at may be better; else it is said
            at = fine[CHECKED] if len(fine) > CHECKED else choice.vetoed(order[0])
        shot = self._kept.get(at.time)
        if shot is None:
            # By the CPU, whatever engine it was: decoding is exact.
            shot = next((found for _, found in video.frames([at.time], {}, {at.time})), None)
        if shot is None or shot.time != at.time:
            shot = max(self._kept.values(), key=lambda kept: kept.time == order[0].time)
            at = next(one for one in order if one.time == shot.time)
        return shot, choice.rounded(at.score)

    def _in_transition(self, time: float, video: Video) -> bool:
        moments = [time, time + choice.LOOK, time + 2 * choice.LOOK]
        found = [shown(shot, self._small, video) for _, shot in video.frames(moments, {}, set(moments))]
        return len(found) == len(moments) and choice.transition(found)


class _Classic:
    """What FFmpeg's thumbnail filter gives of the first BATCH frames: that with the histogram nearest to their mean."""

    exact = True

    def __init__(self, video: Video) -> None:
        self.times: Sequence[float] = video.timeline([]).shown[:BATCH] or (0.0,)
        self._graph: av.filter.Graph | None = None
        self._shots: dict[float, VideoFrame] = {}
        self._coded: Size = 0, 0
        self._answer: Shot | None = None

    def take(self, shot: Shot, video: Video) -> None:
        """Hands a frame to the filter."""
        frame = fetched(shot.frame)
        if self._graph is None:
            self._coded = frame.width, frame.height
            self._graph = _thumbnail(frame, len(self.times))
        if (frame.width, frame.height) == self._coded and shot.time not in self._shots:
            self._shots[shot.time] = frame
            self._graph.push(frame)

    def best(self, video: Video) -> tuple[Shot, Score | None]:
        """The shot; it has no score."""
        if self._answer is None:
            assert self._graph is not None
            self._graph.push(None)
            found = self._graph.pull()
            time = next((time for time, frame in self._shots.items() if frame.pts == found.pts), min(self._shots))
            self._answer = Shot(time, self._shots[time])
        return self._answer, None


def _thumbnail(frame: VideoFrame, batch: int) -> av.filter.Graph:
    graph = av.filter.Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    rule, sink = graph.add("thumbnail", str(max(batch, 2))), graph.add("buffersink")
    source.link_to(rule)
    rule.link_to(sink)
    graph.configure()
    return graph


class _PosterTaker:
    """A poster; those by the same rule share the choice, which the first of them makes."""

    small: Size | None = None  # the same samples on every engine, so the same choice

    def __init__(self, wanted: Poster, video: Video, rule: _Best | _Classic, *, first: bool) -> None:
        self._wanted, self._rule = wanted, rule
        self.times: Sequence[float] = rule.times if first else ()
        self.exact, self.served = rule.exact, not first

    def take(self, moment: float, shot: Shot, video: Video) -> None:
        self._rule.take(shot, video)
        self.served = True

    def write(self, folder: Folder, video: Video) -> Iterable[Output]:
        shot, score = self._rule.best(video)
        made = shown(shot, fit(video.shown, self._wanted.width), video)
        path = folder.write(self._wanted.identity, encode(made, self._wanted.format))
        yield _still(Kind.POSTER, path, made, shot.time, score)


class _Stills:
    """Pictures that are encoded as they come."""

    small: Size | None = None

    def __init__(self, wanted: Frames | At | Scenes, video: Video) -> None:
        self._name, self._format = wanted.name, wanted.format
        self._size = fit(video.shown, wanted.width)
        self.times: Sequence[float] = ()
        self.exact, self.served = False, False

    def _encoded(self, shot: Shot, video: Video) -> tuple[bytes, Output]:
        made = shown(shot, self._size, video)
        return encode(made, self._format), _still(Kind.FRAME, "", made, shot.time)

    def _written(self, folder: Folder, number: int, content: bytes, output: Output, kind: Kind) -> Output:
        path = folder.write(f"{self._name}-{number:03}.{self._format.ending}", content)
        return Output(
            kind,
            path,
            output.width,
            output.height,
            output.time,
            placeholder=output.placeholder,
            colour=output.colour,
        )


class _Spread(_Stills):
    def __init__(self, wanted: Frames, video: Video) -> None:
        super().__init__(wanted, video)
        step = video.duration / wanted.count
        self.times = [step * (number + 0.5) for number in range(wanted.count)] if step else [0.0]
        self._last = float("-inf")
        self._made: list[tuple[bytes, Output]] = []

    def take(self, moment: float, shot: Shot, video: Video) -> None:
        if shot.time > self._last:
            self._last, self.served = shot.time, True
            self._made.append(self._encoded(shot, video))

    def write(self, folder: Folder, video: Video) -> Iterable[Output]:
        for number, (content, output) in enumerate(self._made, 1):
            yield self._written(folder, number, content, output, Kind.FRAME)


class _AtTimes(_Stills):
    def __init__(self, wanted: At, video: Video) -> None:
        super().__init__(wanted, video)
        # Some containers say that they are shorter than they are.
        self._asked = [min(time, video.duration + BEYOND) if video.duration else time for time in wanted.times]
        self.times, self.exact = sorted(set(self._asked)), True
        self._made: dict[float, tuple[bytes, Output]] = {}

    def take(self, moment: float, shot: Shot, video: Video) -> None:
        self.served = True
        self._made[moment] = self._encoded(shot, video)

    def write(self, folder: Folder, video: Video) -> Iterable[Output]:
        for number, time in enumerate(self._asked, 1):
            if (made := self._made.get(time)) is not None:
                yield self._written(folder, number, *made, Kind.FRAME)


class _SceneTaker(_Stills):
    """Every frame is looked at where all are decoded anyway, else keyframes: encoders begin scenes with them."""

    def __init__(self, wanted: Scenes, video: Video) -> None:
        super().__init__(wanted, video)
        timeline = video.timeline([])
        self.times = (timeline.shown if video.exact else timeline.keys) or (0.0,)
        self.exact = video.exact
        self._wanted = wanted
        self._look = fit(video.shown, scenes.WIDTH)
        self._changes = scenes.Changes(steady=video.exact)
        self._made: list[tuple[float, float, bytes, Output]] = []  # a heap: the least change first, of two the later

    def take(self, moment: float, shot: Shot, video: Video) -> None:
        change = self._changes.change(shown(shot, self._look, video))
        if change < self._wanted.change:
            return
        self.served = True
        full = len(self._made) == self._wanted.most
        if full and change <= self._made[0][0]:
            return
        made = change, -shot.time, *self._encoded(shot, video)
        (heappushpop if full else heappush)(self._made, made)

    def write(self, folder: Folder, video: Video) -> Iterable[Output]:
        inorder = sorted(self._made, key=lambda made: -made[1])
        for number, (_, _, content, output) in enumerate(inorder, 1):
            yield self._written(folder, number, content, output, Kind.SCENE)


class _Board:
    """Tiles of different frames, by rising time."""

    exact = False

    def __init__(self, wanted: Storyboard, video: Video) -> None:
        self._wanted = wanted
        self._tile = fit(video.shown, wanted.width)
        self._starts: list[float] = []
        self._tiles: list[Picture] = []
        self.times: Sequence[float] = storyboard.times(video.duration, wanted.tiles)
        self.small: Size | None = self._tile
        self.served = False

    def take(self, moment: float, shot: Shot, video: Video) -> None:
        if not self._starts or shot.time > self._starts[-1]:
            self._starts.append(shot.time)
            self._tiles.append(shown(shot, self._tile, video))
            self.served = True

    def write(self, folder: Folder, video: Video) -> Iterable[Output]:
        name, ending = self._wanted.name, self._wanted.format.ending
        parts = [slice(start, start + MOST_TILES) for start in range(0, len(self._tiles), MOST_TILES)]
        names = [f"{name}.{ending}" if len(parts) == 1 else f"{name}-{n:03}.{ending}" for n in range(1, len(parts) + 1)]
        for part, file in zip(parts, names, strict=True):
            sheet = storyboard.sheet(self._tiles[part])
            path = folder.write(file, encode(sheet, self._wanted.format))
            first = told(self._starts[part][0])
            yield Output(Kind.STORYBOARD, path, sheet.shape[1], sheet.shape[0], first)
        board = storyboard.Board(tuple(self._starts), video.duration, self._tile, tuple(names))
        for index in dict.fromkeys(self._wanted.index):
            kind, file, content = self._index(index, board)
            yield Output(kind, folder.write(f"{name}.{file}", content), *self._tile, told(self._starts[0]))

    def _index(self, index: Index, board: storyboard.Board) -> tuple[Kind, str, bytes]:
        match index:
            case Index.WEBVTT:
                return Kind.WEBVTT, "vtt", storyboard.webvtt(board).encode()
            case Index.JSON:
                return Kind.TILES, "json", storyboard.tiles(board)
            case Index.HLS:
                return Kind.HLS, "m3u8", storyboard.hls(board).encode()
            case Index.BIF:
                return Kind.BIF, "bif", storyboard.bif(board, [encode(tile, Format.JPEG) for tile in self._tiles])


class _PreviewTaker:
    """Pieces from all over the video; they begin at keyframes where there are some, as these are cheap to reach."""

    exact = True

    def __init__(self, wanted: Preview, video: Video) -> None:
        self._wanted = wanted
        self._size = fit(video.shown, wanted.width)
        self._pictures: list[Picture] = []
        self._first = 0.0
        seconds = min(wanted.seconds, video.duration) or 1 / wanted.rate
        count = max(1, round(seconds * wanted.rate))
        pieces = 1 if video.duration <= 2 * wanted.seconds else max(1, round(wanted.seconds / PIECE))
        moments: list[float] = []
        for piece in range(pieces):
            frames = count * (piece + 1) // pieces - count * piece // pieces
            begin = self._begin(video, piece, pieces) if pieces > 1 else max(0.0, (video.duration - seconds) / 2)
            moments += [begin + number / wanted.rate for number in range(frames)]
        self.times: Sequence[float] = sorted(set(moments))
        self.small: Size | None = self._size
        self.served = False

    @staticmethod
    def _begin(video: Video, piece: int, pieces: int) -> float:
        step = video.duration / pieces
        middle = step * (piece + 0.5)
        key = video.key_before(middle)
        return middle if key is None or key < middle - step / 2 else max(0.0, key)

    def take(self, moment: float, shot: Shot, video: Video) -> None:
        if not self.served:
            self._first, self.served = shot.time, True
        self._pictures.append(shown(shot, self._size, video))

    def write(self, folder: Folder, video: Video) -> Iterable[Output]:
        content = animate(self._pictures, self._wanted.rate, self._wanted.format)
        yield Output(Kind.PREVIEW, folder.write(self._wanted.identity, content), *self._size, told(self._first))
