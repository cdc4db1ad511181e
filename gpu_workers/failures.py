"""Why a video gives no thumbnails: one exception, whose reason is of the closed list `schemas.videos.Reason`."""

from __future__ import annotations

from schemas.videos import Reason


class Failure(Exception):
    """`detail` is ours: it may hold numbers and names of formats, never the input's path or content. `tail`, the last
    words of ffmpeg, may; it goes into dead letters and nowhere else."""

    def __init__(self, reason: Reason, detail: str, tail: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.tail = tail
