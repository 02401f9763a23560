"""Small media made by PyAV, for any test that needs a film or a sound: `video(…)` and `audio(…)` give bytes.

The calls are cached by their arguments, so that the whole test-suite may ask for the same file again. What is
encoded is a moving pattern and a sine; the bytes are the same from run to run except where a muxer writes the
time or a random number (Ogg, Matroska), so compare answers and not bytes.
"""

from __future__ import annotations

import functools
import io
import math
import struct
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.audio.resampler import AudioResampler
from av.container import OutputContainer
from PIL import Image

# The encoder and the sample format it takes, per codec name as FFmpeg's decoders report it.
_AUDIO: dict[str, tuple[str, str]] = {
    "aac": ("aac", "fltp"),
    "ac3": ("ac3", "fltp"),
    "alac": ("alac", "s16p"),
    "flac": ("flac", "s16"),
    "mp2": ("mp2", "s16"),
    "mp3": ("libmp3lame", "fltp"),
    "opus": ("libopus", "s16"),
    "vorbis": ("vorbis", "fltp"),
    "adpcm_ms": ("adpcm_ms", "s16"),
    "adpcm_ima_wav": ("adpcm_ima_wav", "s16p"),
    "pcm_alaw": ("pcm_alaw", "s16"),
    "pcm_f32le": ("pcm_f32le", "flt"),
    "pcm_s16le": ("pcm_s16le", "s16"),
    "pcm_s16be": ("pcm_s16be", "s16"),
    "pcm_s24le": ("pcm_s24le", "s32"),
    "pcm_u8": ("pcm_u8", "u8"),
}
_VIDEO = {
    "h264": "libx264",
    "hevc": "libx265",
    "mpeg4": "mpeg4",
    "vp8": "libvpx",
    "vp9": "libvpx-vp9",
    "mjpeg": "mjpeg",
}
# Fast and quiet: the pictures do not matter here, the containers do.
_OPTIONS = {
    "libx264": {"preset": "ultrafast"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:pools=none"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
}


@functools.cache
def video(
    container: str = "mp4",
    *,
    codec: str = "h264",
    size: tuple[int, int] = (64, 48),
    frames: int = 25,
    rate: Fraction | int = 25,
    audio_codec: str | None = None,
    sample_rate: int = 44100,
    channels: int = 2,
    rotation: int = 0,
    faststart: bool = False,
    fragmented: bool = False,
    b_frames: bool = False,
    options: tuple[tuple[str, str], ...] = (),
) -> bytes:
    """A film of `frames` pictures at `rate` per second, with a sine as long if `audio_codec` is given.

    `container` is a muxer's name ('mp4', 'mov', 'matroska', 'webm', …), `codec` and `audio_codec` are names
    as a reader reports them ('h264', 'vp9', 'aac', 'opus'). `rotation` is the clockwise turn that shows the
    film upright; it, `faststart` (the moov box first) and `fragmented` are for MP4 and MOV. `options` go to
    the muxer.
    """
    wanted = dict(options)
    if faststart:
        wanted["movflags"] = "+faststart"
    if fragmented:
        wanted["movflags"] = "+frag_keyframe+empty_moov+default_base_moof"
    # On disk: to put the moov box first, the muxer opens again what it wrote.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video"
        with av.open(str(path), "w", format=container, options=wanted) as output:
            if codec == "av1":
                pictures = output.add_mux_stream("av1", rate=rate, width=size[0], height=size[1])
            else:
                pictures = output.add_stream(_VIDEO[codec], rate=rate)
                pictures.width, pictures.height = size
                pictures.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
                pictures.options = dict(_OPTIONS.get(_VIDEO[codec], {}))
                if b_frames:
                    pictures.options = pictures.options | {"preset": "veryfast", "bf": "2"}
            sound = _sound(output, audio_codec, sample_rate, channels) if audio_codec else None
            made = (
                _av1(size, frames, Fraction(rate))
                if codec == "av1"
                else _encoded(pictures, size, frames, Fraction(rate))
            )
            for packet in made:
                packet.stream = pictures
                output.mux(packet)
            if sound is not None:
                _sine(output, sound, frames / float(rate))
        data = path.read_bytes()
    return _rotated(data, rotation) if rotation else data


@functools.cache
def audio(
    container: str = "mp3",
    *,
    codec: str = "mp3",
    seconds: float = 1.0,
    sample_rate: int = 44100,
    channels: int = 2,
    bit_rate: int | None = None,
    variable: bool = False,
    cover: bytes | None = None,
    title: str | None = None,
    options: tuple[tuple[str, str], ...] = (),
) -> bytes:
    """A sine of so many `seconds`.

    `container` is a muxer's name ('mp3', 'wav', 'flac', 'ogg', 'ipod' for M4A (with a
    cover 'mp4'), 'matroska', …), `codec` a name
    as a reader reports it ('aac', 'flac', 'opus', 'pcm_s16le'). `variable` asks the MP3 encoder for VBR,
    `cover` is a JPEG or PNG file to attach (MP3, M4A, FLAC), `title` a tag. `options` go to the muxer.
    """
    file = io.BytesIO()
    with av.open(file, "w", format=container, options=dict(options)) as output:
        if title:
            output.metadata["title"] = title
        sound = _sound(output, codec, sample_rate, channels)
        if bit_rate:
            sound.bit_rate = bit_rate
        if variable:
            sound.codec_context.qscale = True
            sound.codec_context.global_quality = 4 * 118  # FF_QP2LAMBDA
        if cover:
            with av.open(io.BytesIO(cover)) as source:
                art = next(source.demux(video=0))
                stream = output.add_stream_from_template(source.streams.video[0])
                stream.disposition = av.stream.Disposition.attached_pic
                art.stream = stream
                art.pts = art.dts = 0
                output.mux(art)
        _sine(output, sound, seconds)
    return file.getvalue()


def _row(index: int, length: int) -> bytes:
    """The bytes of each row of picture `index`: the pattern moves."""
    return bytes((index * 5 + x) & 255 for x in range(length))


def _encoded(stream: av.VideoStream, size: tuple[int, int], frames: int, rate: Fraction) -> Iterator[av.Packet]:
    for index in range(frames):
        frame = av.VideoFrame(*size, "rgb24")
        frame.planes[0].update(_row(index, frame.planes[0].line_size) * size[1])
        frame.pts = index
        frame.time_base = 1 / rate
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _av1(size: tuple[int, int], frames: int, rate: Fraction) -> list[av.Packet]:
    """Return the packets of an AV1 film, which Pillow's libaom made as an AVIF sequence.

    PyAV's only AV1 encoder in software, libsvtav1, makes the thread that opens it real-time (SCHED_FIFO with
    priority 99) where it may, and what that process starts afterwards inherits it: see tests/realtime.py.
    """
    file = io.BytesIO()
    first, *others = (Image.frombytes("RGB", size, _row(n, 3 * size[0]) * size[1]) for n in range(frames))
    first.save(file, "AVIF", save_all=True, append_images=others, speed=10, max_threads=1)
    file.seek(0)
    with av.open(file) as source:
        # The last stream: the first is the still picture that an AVIF file begins with.
        packets = [packet for packet in source.demux(source.streams.video[-1]) if packet.size]
    for index, packet in enumerate(packets):
        packet.pts = packet.dts = index
        packet.duration = 1
        packet.time_base = 1 / rate
    return packets


def _sound(output: OutputContainer, codec: str, sample_rate: int, channels: int) -> av.AudioStream:
    # Opus knows no 44,100 Hz: it is always 48,000 to whoever decodes it.
    stream = output.add_stream(_AUDIO[codec][0], rate=48000 if codec == "opus" else sample_rate)
    stream.layout = {1: "mono", 2: "stereo", 6: "5.1"}[channels]
    stream.format = _AUDIO[codec][1]
    if codec == "vorbis":
        stream.options = {"strict": "experimental"}
    return stream


@functools.cache
def _second(rate: int) -> bytes:
    return struct.pack(f"<{rate}h", *(round(8000 * math.sin(880 * math.pi * n / rate)) for n in range(rate)))


def _sine(output: OutputContainer, stream: av.AudioStream, seconds: float) -> None:
    """Encode a sine of 440 Hz, resampled to what the encoder takes, in frames of the size it takes."""
    rate = stream.rate
    total = round(seconds * rate)
    wave = _second(rate)
    size = stream.frame_size or 1024
    resampler = AudioResampler(stream.format.name, stream.layout.name, rate, frame_size=size)
    done = 0
    while done < total:
        count = min(rate, total - done)
        frame = av.AudioFrame("s16", "mono", count)
        frame.planes[0].update(wave[: 2 * count].ljust(frame.planes[0].buffer_size, b"\0"))
        frame.sample_rate = rate
        frame.pts = done
        frame.time_base = Fraction(1, rate)
        for part in resampler.resample(frame):
            output.mux(stream.encode(part))
        done += count
    for part in resampler.resample(None):
        output.mux(stream.encode(part))
    output.mux(stream.encode(None))


def _rotated(data: bytes, degrees: int) -> bytes:
    """`data` with the matrix of its first track header (ISO/IEC 14496-12 8.3.2) turned clockwise."""
    # In 16.16 fixed point, except the last column. The shift that a turn about the corner needs does not
    # matter.
    a, b, c, d = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[degrees]
    at = data.index(b"tkhd") + 4 + 40
    matrix = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    return data[:at] + matrix + data[at + 36 :]
