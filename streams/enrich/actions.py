"""What an event is.

Priority, highest first: heartbeat, order or cart, goal, media, crash, download, outlink, event, content, site search,
page view (facts: Matomo ranks page < search < content < event < outlink < download). A custom action (`ca=1`) that
is none of these is never a page view and counts as an event without a category.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schemas.tables import ActionType

Flags = npt.NDArray[np.bool_]


def classify(
    *,
    ping: bool,
    goal: int,
    media: bool,
    crash: bool,
    download: bool,
    link: bool,
    event: bool,
    content: bool,
    search: bool,
    custom: bool,
) -> ActionType:
    """The type of one event. `goal`: idgoal, 0 for an order or cart, negative for none. The flags say that the
    parameter is not empty after cleaning; `event` needs both category and action."""
    if ping:
        return ActionType.PING
    if goal == 0:
        return ActionType.ECOMMERCE
    if goal > 0:
        return ActionType.GOAL
    if media:
        return ActionType.MEDIA
    if crash:
        return ActionType.CRASH
    if download:
        return ActionType.DOWNLOAD
    if link:
        return ActionType.OUTLINK
    if event:
        return ActionType.EVENT
    if content:
        return ActionType.CONTENT
    if search:
        return ActionType.SITE_SEARCH
    return ActionType.EVENT if custom else ActionType.PAGE_VIEW


def classify_columns(
    *,
    ping: Flags,
    goal: npt.NDArray[np.int64],
    media: Flags,
    crash: Flags,
    download: Flags,
    link: Flags,
    event: Flags,
    content: Flags,
    search: Flags,
    custom: Flags,
) -> npt.NDArray[np.uint8]:
    """`classify` for columns."""
    chosen = np.select(
        [ping, goal == 0, goal > 0, media, crash, download, link, event, content, search, custom],
        [
            ActionType.PING,
            ActionType.ECOMMERCE,
            ActionType.GOAL,
            ActionType.MEDIA,
            ActionType.CRASH,
            ActionType.DOWNLOAD,
            ActionType.OUTLINK,
            ActionType.EVENT,
            ActionType.CONTENT,
            ActionType.SITE_SEARCH,
            ActionType.EVENT,
        ],
        ActionType.PAGE_VIEW,
    )
    return chosen.astype(np.uint8)
