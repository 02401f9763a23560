"""Pictures that no header parser reads, against Pillow itself."""

from __future__ import annotations

import io
import struct

import av
import pytest
from PIL import Image

from mediasql.errors import DecodeError
from mediasql.media.image import exif_tags, read_image
from mediasql.media.info import MediaInfo
from mediasql.media.probe import probe_bytes
from tests.corpus import corpus_files
from tests.media.headers.pictures import exif, picture

MIME_TYPES = {
    "ICO": "image/x-icon",
    "TGA": "image/x-tga",
    "PCX": "image/x-pcx",
    "PPM": "image/x-portable-pixmap",
    "JPEG2000": "image/jp2",
    "PSD": "image/vnd.adobe.photoshop",
    "ICNS": "image/icns",
    "DDS": "image/vnd.ms-dds",
}


def psd(size: tuple[int, int] = (7, 5)) -> bytes:
    """The least of a Photoshop document: header, no colours, resources or layers, raw samples."""
    header = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, size[1], size[0], 8, 3)
    return header + bytes(12) + b"\0\0" + bytes(3 * size[0] * size[1])


def made(format: str) -> bytes:
    if format == "PSD":
        return psd()
    size = {"ICO": (32, 32), "ICNS": (128, 128)}.get(format, (7, 5))
    return picture(format, "RGBA" if format in ("ICNS", "ICO") else "RGB", size)


def read(data: bytes) -> MediaInfo | None:
    return read_image(io.BytesIO(data))


def agrees(data: bytes, info: MediaInfo) -> None:
    with Image.open(io.BytesIO(data)) as image:
        assert (info.format, info.width, info.height, info.mode) == (image.format, *image.size, image.mode)
        value = image.getexif().get(0x0112)
        assert info.orientation == (value if isinstance(value, int) and 1 <= value <= 8 else None)
    assert info.media_type == "image"
    assert info.duration is None
    assert info.streams == ()


@pytest.mark.parametrize("format", MIME_TYPES)
def test_formats_without_a_parser_are_as_pillow_says(format: str) -> None:
    data = made(format)
    info = probe_bytes(data).info
    assert info is not None
    agrees(data, info)
    assert info.mime_type == MIME_TYPES[format]


RARE = (".ico", ".tga", ".pcx", ".ppm", ".pgm", ".jp2", ".j2k", ".psd", ".icns", ".dds", ".sgi", ".xbm", ".msp", ".fli")


@pytest.mark.filterwarnings("ignore:Image was not the expected size")
def test_rare_files_of_the_corpus_are_as_pillow_says() -> None:
    for path in corpus_files(*RARE):
        data = path.read_bytes()
        info = probe_bytes(data).info
        try:
            Image.open(io.BytesIO(data)).close()
        except Exception:
            assert info is None, path
        else:
            assert info is not None, path
            agrees(data, info)
            assert info.mime_type.startswith("image/")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("orientation", [None, 1, 6])
def test_pillow_and_the_parsers_agree(format: str, orientation: int | None) -> None:
    options = {"exif": exif(orientation)} if orientation and format not in ("GIF", "BMP") else {}
    data = picture(format, **options)
    ours, theirs = probe_bytes(data).info, read(data)
    assert ours is not None
    assert theirs is not None
    for name in ("media_type", "mime_type", "format", "width", "height", "mode", "orientation"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert not ours.exif_read or (ours.exif is None) == (theirs.exif is None)


def test_an_orientation_that_is_none_is_unknown() -> None:
    tags = Image.Exif()
    tags[0x0112] = 9
    assert read(picture("JPEG", exif=tags)).orientation is None  # type: ignore[union-attr]
    assert read(picture("JPEG")).exif is None  # type: ignore[union-attr]


def test_exif_travels_whole() -> None:
    info = read(picture("JPEG", exif=exif(6)))
    assert info is not None
    assert info.orientation == 6
    assert info.exif is not None
    assert ("Image", 0x010F, "Make", "Maker of cameras") in exif_tags(info.exif)


@pytest.mark.parametrize("data", [b"", b"nothing", b"\x00\x00\x01\xb3" + bytes(100)])
def test_what_is_not_a_picture_is_none(data: bytes) -> None:
    assert read(data) is None


@pytest.mark.parametrize("data", [b"\x89HDF\r\n\x1a\n" + bytes(99), b"GRIB\0\0\0\1" + bytes(99), b"\x89PNG\r\n\x1a\n"])
def test_data_and_damaged_files_have_no_size(data: bytes) -> None:
    assert probe_bytes(data).info is None


def test_a_damaged_picture_says_so() -> None:
    with pytest.raises(DecodeError, match="a damaged image"):
        read(b"\xff\xd8\xff\xe0\0\x10JFIF\0")


@pytest.mark.parametrize(("codec", "format"), [("dpx", "DPX"), ("exr", "EXR")])
def test_a_picture_that_only_ffmpeg_knows_is_a_picture(codec: str, format: str) -> None:
    encoder = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height = 30, 20  # type: ignore[attr-defined]
    encoder.pix_fmt = "gbrpf32le" if codec == "exr" else "rgb24"  # type: ignore[attr-defined]
    encoder.time_base = 1  # type: ignore[assignment]
    frame = av.VideoFrame(30, 20, encoder.pix_fmt)  # type: ignore[attr-defined]
    frame.pts = 0
    packets = [*encoder.encode(frame), *encoder.encode(None)]  # type: ignore[attr-defined]
    info = probe_bytes(b"".join(bytes(packet) for packet in packets)).info
    assert info is not None
    assert (info.media_type, info.width, info.height, info.duration) == ("image", 30, 20, None)
    assert (info.format, info.video_codec) == (format, None)
