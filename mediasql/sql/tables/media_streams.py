"""media_streams(media): a row for each stream of a container."""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter

from ...media.info import StreamInfo
from ..media import Media
from ..registry import Column, Session, table


def _column(name: str, type: str, doc: str) -> Column:
    return Column(name, type, doc, attrgetter(name))


@table(
    Column("stream_index", "INTEGER", "FFmpeg's stream index, from 0.", attrgetter("index")),
    _column("type", "TEXT", "'video', 'audio', 'subtitle', 'data' or 'attachment'."),
    _column("codec", "TEXT", "FFmpeg's name of the codec."),
    _column("duration", "REAL", "Length in seconds."),
    _column("bit_rate", "INTEGER", "Bits per second."),
    _column("width", "INTEGER", "Width in stored pixels."),
    _column("height", "INTEGER", "Height in stored pixels."),
    _column("rotation", "INTEGER", "Degrees to turn the picture counter-clockwise for viewing."),
    _column("frame_rate", "REAL", "Frames per second, on average."),
    _column("frame_count", "INTEGER", "Number of frames, where the header tells."),
    _column("pixel_format", "TEXT", "FFmpeg's name of the pixel format."),
    _column("sample_rate", "INTEGER", "Samples per second."),
    _column("channels", "INTEGER", "Number of audio channels."),
    _column("language", "TEXT", "ISO 639-2 code of the language."),
    _column("is_default", "INTEGER", "1 for the streams that players choose by themselves."),
)
def media_streams(session: Session, media: Media) -> Iterator[StreamInfo]:
    """A row for each video, audio, subtitle or data stream; none for images, nor for what cannot be read.

    sql> SELECT stream_index, type, codec FROM media_streams('clip.mp4')
    0|video|h264
    1|audio|aac
    """
    yield from media.info.streams
