"""Video and audio containers as PyAV, that is FFmpeg, sees them."""

from __future__ import annotations

import math
from typing import Any

from ..errors import DecodeError
from .info import MediaInfo, StreamInfo

# FFmpeg reads this little to guess frame rates; measured to answer as the defaults do, in a fifth of the time.
_FAST = {"probesize": "32768", "analyzeduration": "0"}
# Demuxers that open other files or URLs by themselves, or that make media out of any text. Not for us: FFmpeg gets
# the bytes of one object and nothing else.
_REFUSED = frozenset({"hls", "applehttp", "dash", "concat", "sdp", "rtsp", "imf", "tty", "webm_dash_manifest"})
_ROTATION_TO_ORIENTATION = {0: 1, 90: 8, 180: 3, 270: 6}


def read_container(file: Any) -> MediaInfo | None:
    """The header of a container as FFmpeg reads it; None when FFmpeg finds no audio or video in it."""
    info = _read(file, _FAST)
    if info is None or (info.duration is not None and (info.media_type == "audio" or info.frame_rate is not None)):
        return info
    file.seek(0)
    return _read(file, {})


def _read(file: Any, options: dict[str, str]) -> MediaInfo | None:
    import av

    try:
        container = av.open(
            file,
            metadata_errors="replace",
            options={**options, "protocol_whitelist": "none"},
            io_open=_refuse_to_open,
        )
    except (av.FFmpegError, ValueError, IndexError):
        return None
    with container:
        if set(container.format.name.split(",")) & _REFUSED:
            raise DecodeError(f"a {container.format.name} playlist, which mediasql does not follow")
        return container_info(container)


def _refuse_to_open(*args: Any, **kwargs: Any) -> Any:
    raise DecodeError("the file refers to another file, which mediasql does not follow")


def container_info(container: Any) -> MediaInfo | None:
    """MediaInfo of an open PyAV container; None when it holds neither audio nor video."""
    streams = tuple(_stream_info(stream) for stream in container.streams)
    attached = {stream.index for stream in container.streams if _is_attached_picture(stream)}
    video = next((s for s in streams if s.type == "video" and s.index not in attached), None)
    audio = next((s for s in streams if s.type == "audio"), None)
    main = video or audio
    if main is None:
        return None
    name = container.format.name
    return MediaInfo(
        media_type=main.type,
        mime_type=_mime_type(name, main.type),
        format=name,
        width=video.width if video else None,
        height=video.height if video else None,
        orientation=_ROTATION_TO_ORIENTATION.get(video.rotation) if video and video.rotation else None,
        duration=container.duration / 1_000_000 if container.duration else None,
        frame_rate=video.frame_rate if video else None,
        frame_count=video.frame_count if video else None,
        video_codec=video.codec if video else None,
        audio_codec=audio.codec if audio else None,
        bit_rate=container.bit_rate or None,
        sample_rate=audio.sample_rate if audio else None,
        channels=audio.channels if audio else None,
        streams=streams,
    )


def _stream_info(stream: Any) -> StreamInfo:
    codec = stream.codec_context
    duration = stream.duration * stream.time_base if stream.duration and stream.time_base else None
    is_video, is_audio = stream.type == "video", stream.type == "audio"
    return StreamInfo(
        index=stream.index,
        type=stream.type,
        codec=codec.codec.canonical_name if codec else None,
        duration=float(duration) if duration is not None else None,
        bit_rate=(codec.bit_rate or None) if codec and (is_video or is_audio) else None,
        width=codec.width if is_video else None,
        height=codec.height if is_video else None,
        frame_rate=_number(stream.average_rate) if is_video else None,
        frame_count=stream.frames or None,
        pixel_format=codec.pix_fmt if is_video else None,
        sample_rate=codec.sample_rate if is_audio else None,
        channels=codec.channels if is_audio else None,
        language=stream.language if stream.language not in (None, "und") else None,
        is_default=bool(stream.disposition & stream.disposition.default),
    )


def _is_attached_picture(stream: Any) -> bool:
    return bool(stream.disposition & stream.disposition.attached_pic)


def _number(rate: Any) -> float | None:
    return float(rate) if rate and math.isfinite(rate) else None


def _mime_type(name: str, media_type: str) -> str:
    kinds = {
        "mov,mp4,m4a,3gp,3g2,mj2": "mp4",
        "matroska,webm": "x-matroska",
        "mp3": "mpeg",
        "mpeg": "mpeg",
        "mpegts": "mp2t",
        "mpegvideo": "mpeg",
        "avi": "x-msvideo",
        "asf": "x-ms-asf",
        "flv": "x-flv",
        "aiff": "aiff",
        "aac": "aac",
        "amr": "amr",
        "au": "basic",
        "caf": "x-caf",
    }
    return f"{media_type}/{kinds.get(name, 'x-' + name.split(',')[0])}"
