"""What a header tells about media: the one vocabulary that parsers, Pillow, PyAV and SQL share."""

from __future__ import annotations

from dataclasses import dataclass, field

# Of what the parsers tell: one more whenever they tell something else about the same file, so that nobody takes what
# an earlier version kept for it.
PARSERS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamInfo:
    """One stream of a container, named as PyAV and FFmpeg name things. Unknown is None.

    `index` is FFmpeg's stream index; `type` is 'video', 'audio', 'subtitle', 'data' or 'attachment';
    durations are seconds, `bit_rate` bits per second, `language` an ISO 639-2 code.
    """

    index: int
    type: str
    codec: str | None = None
    duration: float | None = None
    bit_rate: int | None = None
    width: int | None = None
    height: int | None = None
    rotation: int | None = None
    frame_rate: float | None = None
    frame_count: int | None = None
    pixel_format: str | None = None
    sample_rate: int | None = None
    channels: int | None = None
    language: str | None = None
    is_default: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaInfo:
    """What the header of one file tells. Unknown, and not applicable, is None.

    media_type    'image', 'video' or 'audio'
    mime_type     of the content as recognised, not as the server declares it
    format        Pillow's name for images ('JPEG'), FFmpeg's for containers ('mov,mp4,m4a,3gp,3g2,mj2')
    width, height stored pixels, before any orientation is applied; of the first video stream for video
    orientation   1..8 as in EXIF tag 0x0112; None when the file says nothing
    mode          Pillow's mode of an image ('RGB', 'L', 'P', …)
    duration      seconds; frame_rate in frames per second (the average); frame_count of the first video stream
    bit_rate      bits per second of the whole file
    exif          the EXIF block, starting at its TIFF header ('II*\\0' or 'MM\\0*'), without 'Exif\\0\\0'
    exif_read     False when EXIF may exist in a part of the file that was not read; `orientation` and `exif`
                  are then unknown rather than absent
    """

    media_type: str
    mime_type: str
    format: str
    width: int | None = None
    height: int | None = None
    orientation: int | None = None
    mode: str | None = None
    duration: float | None = None
    frame_rate: float | None = None
    frame_count: int | None = None
    video_codec: str | None = None
    audio_codec: str | None = None
    bit_rate: int | None = None
    sample_rate: int | None = None
    channels: int | None = None
    exif: bytes | None = field(default=None, repr=False)
    exif_read: bool = True
    streams: tuple[StreamInfo, ...] = ()
