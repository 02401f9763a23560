"""Properties of video and audio."""

from __future__ import annotations

from ..registry import Media, function


@function(field="duration")
def duration(media: Media) -> float | None:
    """Length in seconds; NULL for images.

    sql> SELECT duration('clip.mp4'), duration('song.flac'), duration('photo.jpg')
    2.0|3.0|
    """
    return media.info.duration


@function(field="frame_rate")
def frame_rate(media: Media) -> float | None:
    """Frames per second of the first video stream, on average.

    sql> SELECT frame_rate('clip.mp4')
    25.0
    """
    return media.info.frame_rate


@function(field="frame_count")
def frame_count(media: Media) -> int | None:
    """Number of frames of the first video stream, where the header tells.

    sql> SELECT frame_count('clip.mp4')
    50
    """
    return media.info.frame_count


@function(field="video_codec")
def video_codec(media: Media) -> str | None:
    """Codec of the first video stream, by FFmpeg's name.

    sql> SELECT video_codec('clip.mp4'), video_codec('song.flac')
    h264|
    """
    return media.info.video_codec


@function(field="audio_codec")
def audio_codec(media: Media) -> str | None:
    """Codec of the first audio stream, by FFmpeg's name.

    sql> SELECT audio_codec('clip.mp4'), audio_codec('song.flac')
    aac|flac
    """
    return media.info.audio_codec


@function(field="bit_rate")
def bit_rate(media: Media) -> int | None:
    """Bits per second of the whole file.

    sql> SELECT bit_rate('song.flac') BETWEEN 1000 AND 2000000
    1
    """
    return media.info.bit_rate


@function(field="sample_rate")
def sample_rate(media: Media) -> int | None:
    """Samples per second of the first audio stream.

    sql> SELECT sample_rate('song.flac')
    44100
    """
    return media.info.sample_rate


@function(field="channels")
def channels(media: Media) -> int | None:
    """Number of channels of the first audio stream.

    sql> SELECT channels('song.flac')
    2
    """
    return media.info.channels
