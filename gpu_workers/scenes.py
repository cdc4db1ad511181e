"""Scene changes: where a picture has little to do with the one before it.

The measure is that of FFmpeg's `select` (its variable `scene`): the mean difference of two pictures in hundredths of
the range, but no more than it differs from the difference before it, so that steady motion is none.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]

WIDTH = 64  # pixels, of the pictures that are compared


class Changes:
    """Takes small pictures one after the other. `steady`: they follow one another as closely as the video's frames,
    so that motion shows as a difference that lasts."""

    def __init__(self, *, steady: bool) -> None:
        self._steady = steady
        self._last: npt.NDArray[np.int16] | None = None
        self._difference = 0.0

    def change(self, picture: Picture) -> float:
        """How much has changed, 0 to 1; 1 for the first picture."""
        now = picture.astype(np.int16)
        last, self._last = self._last, now
        if last is None:
            return 1.0
        difference = float(np.abs(now - last).mean())
        before, self._difference = self._difference, difference
        found = min(difference, abs(difference - before)) if self._steady else difference
        return min(found / 100, 1.0)
