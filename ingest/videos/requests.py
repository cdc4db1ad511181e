"""What a request must be to become a job."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Annotated, TypeVar, get_args

import msgspec
from msgspec import UNSET, UnsetType

from infra.service.destinations import LONGEST_URL
from ingest.videos.problems import Problem
from schemas.sites import MAX_SITE
from schemas.videos import DEFAULT_OUTPUTS, MOST_OUTPUTS, MOST_PATH, Priority, Wanted, doubled

LONGEST_BODY = 64 * 1024  # bytes of JSON
KINDS_EXPECTED = f"Expected one of {', '.join(kind.__struct_config__.tag for kind in get_args(Wanted))}"

Url = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_URL)]
SiteId = Annotated[int, msgspec.Meta(ge=1, le=MAX_SITE)]


class UploadRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The part `request` beside the part `file`. `site`: needed where the token may write on several; `webhook`: is
    told when the job is done or has failed; `priority`: of two lanes the one that is taken first, or the one for much
    that is not urgent."""

    outputs: Annotated[tuple[Wanted, ...], msgspec.Meta(min_length=1, max_length=MOST_OUTPUTS)] = DEFAULT_OUTPUTS
    site: SiteId | None = None
    webhook: Url | UnsetType = UNSET
    priority: Annotated[Priority, msgspec.Meta(description="interactive unless said")] | UnsetType = UNSET

    @property
    def lane(self) -> Priority:
        """Where the job goes."""
        return Priority.INTERACTIVE if isinstance(self.priority, UnsetType) else self.priority


class VideoRequest(UploadRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A body that names a file, or a URL that it is fetched from. A `path` that is not absolute counts from the folder
    of videos."""

    path: Annotated[str, msgspec.Meta(min_length=1, max_length=MOST_PATH)] | UnsetType = UNSET
    url: Url | UnsetType = UNSET


T = TypeVar("T", bound=UploadRequest)


def read(body: bytes, kind: type[T], where: str = "") -> T:
    """What a body asks for; raises Problem. `where`: the part of a form that the body is."""
    try:
        asked = msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        text, _, place = str(error).rpartition(" - at `")
        field = place.rstrip("`").removeprefix("$").removeprefix(".") if text else ""
        detail = KINDS_EXPECTED if field.endswith("kind") else text or str(error)
        raise Problem(422, detail, field=".".join(filter(None, (where, field)))) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        what = f"the part {where}" if where else "the body"
        raise Problem(400, f'{what} is not JSON; an object is wanted, as {{"path": "holiday.mp4"}}') from None
    if isinstance(asked, VideoRequest) and (asked.path is UNSET) == (asked.url is UNSET):
        raise Problem(422, "one of `path` and `url` is needed, and not both")
    if (number := doubled(asked.outputs)) is not None:
        raise Problem(
            422,
            "another output of this list has the same kind and width, so the same file",
            field=".".join(filter(None, (where, f"outputs[{number}]"))),
        )
    return asked


def allowed(path: str, folder: Path, largest: int) -> Path:
    """The file that a path means, links resolved; raises Problem unless it is a regular file below `folder`, of at
    most `largest` bytes. Looks at the file system, so it may take a while.

    What lies outside is refused alike whether it exists or not, so the answer tells nothing about it.
    """
    try:
        top = os.path.realpath(folder)
        real = Path(os.path.realpath(os.path.join(top, path)))
        if not real.is_relative_to(top):
            raise Problem(
                422,
                "it is outside the folder that videos are taken from; only files in there can be named",
                field="path",
            )
        str(real).encode()  # a job is JSON, so UTF-8
        found = real.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise Problem(
            422, "there is no such file; a path counts from the folder that videos are taken from", field="path"
        ) from None
    except OSError as error:
        raise Problem(422, f"the file cannot be looked at: {error.strerror}", field="path") from None
    except ValueError:
        raise Problem(422, "no file can have such a path", field="path") from None
    if not stat.S_ISREG(found.st_mode):
        raise Problem(422, "it is not a regular file", field="path")
    if found.st_size > largest:
        raise Problem(422, f"it has {found.st_size} bytes, at most {largest} are taken", field="path")
    return real
