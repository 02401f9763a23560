"""Video and audio containers as PyAV, that is FFmpeg, sees them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from ..errors import DecodeError
from . import pyav
from .info import MediaInfo, StreamInfo

# FFmpeg reads this little to guess frame rates; measured to answer as the defaults do, in a fifth of the time.
_FAST = {"probesize": "32768", "analyzeduration": "0"}
# Demuxers that open other files or URLs by themselves: FFmpeg gets the bytes of one object and nothing else.
_REFERRING = frozenset({"hls", "applehttp", "dash", "concat", "sdp", "rtsp", "imf", "webm_dash_manifest"})
# And those that take any bytes for theirs: screens of text, karaoke graphics.
_CREDULOUS = frozenset({"tty", "ansi", "bin", "xbin", "adf", "idf", "cdg"})
# Clockwise degrees, as the header parsers have them, to EXIF orientation.
_ORIENTATION = {90: 6, 180: 3, 270: 8}
_MOST_PIXELS = 2**27  # of a frame that is decoded: 16K video
_MOVIE = "mov,mp4,m4a,3gp,3g2,mj2"
# Pictures of the formats that Pillow does not know. On the others it has spoken, and called the file damaged.
_STILLS = {
    "dpx": ("DPX", "image/x-dpx"),
    "exr": ("EXR", "image/x-exr"),
    "hdr": ("HDR", "image/vnd.radiance"),
    "jpegls": ("JPEGLS", "image/jls"),
    "jpegxl": ("JXL", "image/jxl"),
}
_MIME_TYPES = {
    "aiff": "aiff",
    "amr": "amr",
    "asf": "x-ms-asf",
    "au": "basic",
    "avi": "x-msvideo",
    "caf": "x-caf",
    _MOVIE: "mp4",
    "mp3": "mpeg",
    "mpegts": "mp2t",
    "mpegvideo": "mpeg",
}


def read_container(file: Any) -> MediaInfo | None:
    """The header of a container as FFmpeg reads it; None when FFmpeg finds no audio or video in it."""
    info = _read(file, _FAST)
    if info is None or (info.duration is not None and (info.media_type == "audio" or info.frame_rate is not None)):
        return info
    file.seek(0)
    return _read(file, {})


def _read(file: Any, options: dict[str, str]) -> MediaInfo | None:
    referred: list[str] = []
    try:
        container = pyav.open_container(file, options, referred)
    except pyav.damages():
        return _unless(referred, None)
    with container:
        kinds = set(container.format.name.split(","))
        if kinds & _CREDULOUS:
            return None
        if kinds & _REFERRING:
            raise DecodeError(f"a {container.format.name} playlist, which mediasql does not follow")
        info = _unless(referred, container_info(container))
        if info is not None and info.format == "matroska,webm" and _is_webm(file):
            return replace(info, mime_type=f"{info.media_type}/webm")
        return info


def first_picture(file: Any, box: tuple[int, int]) -> Any:
    """The first key frame, or the cover, as a `PIL.Image.Image`: upright, and no larger than `box`.

    Raises DecodeError for a file without one, or that is not ours to read.
    """
    import av

    referred: list[str] = []
    try:
        with pyav.open_container(file, {}, referred) as container:
            kinds = set(container.format.name.split(","))
            if referred or kinds & _REFERRING:
                raise DecodeError("the file refers to another file, which mediasql does not follow")
            # What depends on other streams is a tile of a picture.
            parts = av.stream.Disposition.dependent
            streams = [stream for stream in container.streams.video if not stream.disposition & parts]
            if not streams or kinds & _CREDULOUS:
                raise DecodeError("there is no picture in it")
            stream = streams[0]
            codec = stream.codec_context
            if codec is None:
                raise DecodeError("its codec is not known")
            if codec.width * codec.height > _MOST_PIXELS:
                raise DecodeError(f"{codec.width} x {codec.height} is too large a picture to be decoded")
            codec.skip_frame = "NONKEY"
            frame = next(container.decode(stream), None)
            if frame is None:  # a stream that marks no frame as a key frame
                container.seek(0)
                codec.skip_frame = "DEFAULT"
                frame = next(container.decode(stream), None)
            if frame is None:
                raise DecodeError("no frame of it can be decoded")
            return _drawn(frame, stream.sample_aspect_ratio, box)
    except pyav.damages() as error:
        raise pyav.unreadable("an image, video or audio file", error) from None


def _drawn(frame: Any, pixel: Any, box: tuple[int, int]) -> Any:
    """A frame scaled into `box` and turned upright; `pixel` is the ratio of a pixel's width to its height."""
    wide, high = frame.width * float(pixel or 1), float(frame.height)
    turned = int(frame.rotation) % 180 == 90
    inner = box[::-1] if turned else box
    scale = min(1.0, inner[0] / wide, inner[1] / high)
    # PyAV keeps a scaler for each thread. One with threads of its own waits for them when it is freed, also in a forked
    # child, which does not have them.
    image = frame.to_image(width=max(1, round(wide * scale)), height=max(1, round(high * scale)), threads=1)
    return image.rotate(int(frame.rotation), expand=True)


def _is_webm(file: Any) -> bool:
    """FFmpeg does not tell; the document type stands in the first element."""
    file.seek(0)
    return b"webm" in file.read(64)


def _unless(referred: list[str], info: MediaInfo | None) -> MediaInfo | None:
    if referred:
        raise DecodeError("the file refers to another file, which mediasql does not follow")
    return info


def container_info(container: Any) -> MediaInfo | None:
    """MediaInfo of an open PyAV container; None when it holds neither audio nor video.

    Cover art, which FFmpeg lists as a stream, is none here.
    """
    listed = [stream for stream in container.streams if not stream.disposition & stream.disposition.attached_pic]
    name = container.format.name
    if name.endswith("_pipe"):
        return _still(name.removesuffix("_pipe"), listed)
    streams = tuple(_stream_info(stream) for stream in listed)
    video = next((s for s in streams if s.type == "video"), None)
    audio = next((s for s in streams if s.type == "audio"), None)
    main = video or audio
    if main is None:
        return None
    return MediaInfo(
        media_type=main.type,
        mime_type=_mime_type(container, main.type),
        format=name,
        width=video.width if video else None,
        height=video.height if video else None,
        orientation=_ORIENTATION.get(video.rotation) if video and video.rotation is not None else None,
        duration=container.duration / 1_000_000 if container.duration and container.duration > 0 else None,
        frame_rate=video.frame_rate if video else None,
        frame_count=video.frame_count if video else None,
        video_codec=video.codec if video else None,
        audio_codec=audio.codec if audio else None,
        bit_rate=container.bit_rate or None,
        sample_rate=audio.sample_rate if audio else None,
        channels=audio.channels if audio else None,
        streams=streams,
    )


def _still(format: str, streams: list[Any]) -> MediaInfo | None:
    """A picture; None for a format that is not ours to read, or has no pixels of its own (SVG)."""
    codec = streams[0].codec_context if streams else None
    if format not in _STILLS or codec is None or not codec.width or not codec.height:
        return None
    name, mime_type = _STILLS[format]
    return MediaInfo(media_type="image", mime_type=mime_type, format=name, width=codec.width, height=codec.height)


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
        width=(codec.width or None) if is_video and codec else None,
        height=(codec.height or None) if is_video and codec else None,
        rotation=_rotation(stream) if is_video and codec else None,
        frame_rate=_number(stream.average_rate) if is_video else None,
        frame_count=stream.frames or None,
        pixel_format=codec.pix_fmt if is_video and codec else None,
        sample_rate=(codec.sample_rate or None) if is_audio and codec else None,
        channels=(codec.channels or None) if is_audio and codec else None,
        language=stream.language if stream.language not in (None, "und") else None,
        is_default=bool(stream.disposition & stream.disposition.default),
    )


def _rotation(stream: Any) -> int | None:
    """The clockwise turn that shows the pictures of a movie upright, 0 to 359 degrees; None when nothing tells.

    PyAV has the display matrix of decoded frames only. FFmpeg has read the first of them already.
    """
    if stream.container.format.name != _MOVIE:
        return None
    try:
        frame = next(stream.container.decode(stream), None)
    except pyav.damages():
        return None
    return None if frame is None else -int(frame.rotation) % 360


def _number(rate: Any) -> float | None:
    return float(rate) if rate and math.isfinite(rate) else None


def _mime_type(container: Any, media_type: str) -> str:
    """As the header parsers say it, for the formats that they have too."""
    name = container.format.name
    if name == _MOVIE and container.metadata.get("major_brand", "qt  ") == "qt  ":
        return "video/quicktime"
    known = _MIME_TYPES.get(name, name if name in _PLAIN else f"x-{name.partition(',')[0]}")
    return f"{media_type}/{known}"


# Formats whose name is that of their MIME type.
_PLAIN = frozenset({"aac", "ac3", "flac", "mpeg", "ogg", "wav"})
