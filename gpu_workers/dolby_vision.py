"""Dolby Vision: whether a video's pictures mean anything without its metadata.

Profiles 7 and 8 have a picture that other displays show (HDR10, HLG or SDR), and which is taken. Profile 5 has one in
ICtCp that only the metadata in each frame (RPU) makes sense of; shown as it is, it is green and purple.
"""

from __future__ import annotations

import struct

from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame

# FFmpeg's AVDOVIMetadata begins with the offset of AVDOVIRpuDataHeader, in which these bytes are looked at.
PROFILE, FULL_RANGE = 4, 10
HEADER = 11


def alone(frame: VideoFrame) -> bool:
    """Whether a frame is of profile 5: the profile 0 of its RPU with a picture of full range (as FFmpeg tells them
    apart, libavcodec/dovi_rpu.c)."""
    data = frame.side_data.get("DOVI_METADATA")
    return isinstance(data, SideData) and profile_5(bytes(data))


def profile_5(metadata: bytes) -> bool:
    """The same of AVDOVIMetadata as it lies in memory."""
    size = struct.calcsize("@N")
    if len(metadata) < size:
        return False
    (offset,) = struct.unpack_from("@N", metadata)
    header = metadata[offset : offset + HEADER]
    return len(header) == HEADER and header[PROFILE] == 0 and header[FULL_RANGE] == 1
