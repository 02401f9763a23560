"""Thumbnails: their size, their bytes, their orientation; of images in all modes, of video, of covers."""

from __future__ import annotations

import io
import random
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, ImageOps

from mediasql.errors import DecodeError, UsageError
from mediasql.media.sparse import SparseFile
from mediasql.media.thumbnail import thumbnail
from tests.media import make
from tests.media.headers.pictures import exif, picture
from tests.waiting import LONG


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def corners(orientation: int = 1, size: tuple[int, int] = (400, 200)) -> bytes:
    """A JPEG with another colour in each corner, which a viewer shows as the orientation says."""
    image = Image.new("RGB", size, "white")
    for at, colour in enumerate(("red", "lime", "blue", "black")):
        x, y = (at % 2) * size[0] // 2, (at // 2) * size[1] // 2
        image.paste(colour, (x, y, x + size[0] // 2, y + size[1] // 2))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=95, exif=exif(orientation))
    return out.getvalue()


def noise(mode: str, size: tuple[int, int]) -> Image.Image:
    length = size[0] * size[1] * len(mode)
    return Image.frombytes(mode, size, random.Random(1).randbytes(length))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_stands_upright_as_pillow_turns_it(orientation: int) -> None:
    data = corners(orientation)
    expected = ImageOps.exif_transpose(opened(data))
    small = opened(thumbnail(data, 100, 100))
    assert small.size == tuple(side // 4 for side in expected.size)
    assert not small.getexif()
    for x, y in ((0.2, 0.2), (0.8, 0.2), (0.2, 0.8), (0.8, 0.8)):
        seen = small.getpixel((int(x * small.width), int(y * small.height)))
        meant = expected.getpixel((int(x * expected.width), int(y * expected.height)))
        assert all(abs(a - b) < 24 for a, b in zip(seen, meant, strict=True))


@given(st.tuples(st.integers(1, 700), st.integers(1, 700)), st.integers(1, 300), st.integers(1, 300))
@settings(max_examples=40)
def test_it_fits_keeps_its_proportions_and_is_not_enlarged(size: tuple[int, int], width: int, height: int) -> None:
    small = opened(thumbnail(picture("PNG", size=size), width, height))
    scale = min(1.0, width / size[0], height / size[1])
    assert small.width <= width
    assert small.height <= height
    for side, whole in zip(small.size, size, strict=True):
        assert abs(side - max(1.0, whole * scale)) <= 1


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"])
def test_all_modes(mode: str) -> None:
    format = {"CMYK": "JPEG", "YCbCr": "JPEG"}.get(mode, "TIFF")
    image = opened(thumbnail(picture(format, mode, size=(60, 40)), 30, 30))
    assert image.size == (30, 20)
    assert image.format == ("WEBP" if mode in ("LA", "RGBA") else "JPEG")


def test_wide_samples_become_grey_not_white() -> None:
    image = Image.new("I;16", (40, 20), 0x8000)
    out = io.BytesIO()
    image.save(out, "PNG")
    assert abs(opened(thumbnail(out.getvalue(), 20, 20)).getpixel((5, 5)) - 128) < 3


def test_transparency_is_kept_where_there_is_any() -> None:
    image = Image.new("RGBA", (100, 100), (255, 0, 0, 255))
    out = io.BytesIO()
    image.save(out, "PNG")
    assert opened(thumbnail(out.getvalue(), 50, 50)).format == "JPEG", "an alpha channel that hides nothing"
    image.paste((0, 0, 0, 0), (0, 0, 50, 100))
    out = io.BytesIO()
    image.save(out, "PNG")
    small = opened(thumbnail(out.getvalue(), 50, 50))
    assert small.format == "WEBP"
    assert small.convert("RGBA").getpixel((5, 25))[3] == 0
    assert small.convert("RGBA").getpixel((45, 25))[3] == 255


@pytest.mark.parametrize("most", [1024, 2048, 10 * 1024])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_it_takes_no_more_bytes_than_allowed(mode: str, most: int) -> None:
    out = io.BytesIO()
    noise(mode, (500, 400)).save(out, "PNG")
    assert most / 3 < len(thumbnail(out.getvalue(), 400, 400, most)) <= most
    assert len(thumbnail(out.getvalue(), 400, 400, None)) > 10 * 1024


def test_what_was_written_beside_the_picture_is_gone() -> None:
    data = picture("JPEG", size=(50, 50), comment=b"secret" * 5000, icc_profile=b"secret" * 5000, xmp=b"secret" * 50)
    assert b"secret" not in thumbnail(data, 40, 40)


def test_a_large_jpeg_is_decoded_at_a_fraction(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    load = ImageFile.ImageFile.load
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: sizes.append(self.size) or load(self))
    thumbnail(picture("JPEG", size=(4000, 3000)), 128, 128)
    assert max(sizes)[0] <= 1000


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_the_first_frame_of_a_film_stands_upright(rotation: int) -> None:
    film = make.video("mp4", size=(320, 240), rotation=rotation)
    with av.open(io.BytesIO(film)) as container:
        frame = next(container.decode(video=0))
        expected = frame.to_image().rotate(int(frame.rotation), expand=True)
    small = opened(thumbnail(film, 160, 160))
    assert small.size == ((160, 120) if rotation % 180 == 0 else (120, 160))
    expected = expected.resize(small.size)
    apart = [abs(a - b) for a, b in zip(small.tobytes(), expected.tobytes(), strict=True)]
    assert sum(apart) / len(apart) < 12


def test_of_a_film_little_is_read() -> None:
    film = make.video("mp4", size=(320, 240), frames=700)
    read = 0

    def fetch(start: int, stop: int) -> bytes:
        nonlocal read
        read += stop - start
        return film[start:stop]

    assert opened(thumbnail(SparseFile(fetch, len(film)), 100, 100)).width == 100
    assert len(film) > 800_000
    assert read < len(film) / 3


def test_the_cover_of_a_song() -> None:
    out = io.BytesIO()
    with av.open(out, "w", format="mp3") as container:
        sound = container.add_stream("libmp3lame", rate=44100)
        cover = container.add_stream("mjpeg")
        cover.width, cover.height, cover.pix_fmt = 90, 60, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        picture_frame = av.VideoFrame.from_image(Image.new("RGB", (90, 60), "lime")).reformat(format="yuvj420p")
        for packet in [*cover.encode(picture_frame), *cover.encode(None)]:
            container.mux(packet)
        silence = av.AudioFrame(format="fltp", layout="stereo", samples=1152)
        silence.rate = 44100
        for plane in silence.planes:
            plane.update(bytes(plane.buffer_size))
        for packet in [*sound.encode(silence), *sound.encode(None)]:
            container.mux(packet)
    small = opened(thumbnail(out.getvalue(), 45, 45))
    assert small.size == (45, 30)
    assert small.getpixel((20, 15))[1] > 200


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (make.audio("flac", codec="flac", seconds=0.2), "no picture"),
        (b"this is a text" * 100, "not an image|no picture|cannot"),
        (b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1/a.ts\n" * 20, "refers|playlist|not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n", "a program"),
        (picture("JPEG", size=(300, 300))[:500], "damaged"),
    ],
)
def test_what_has_no_picture(data: bytes, why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        thumbnail(data, 50, 50)


@pytest.mark.parametrize(("width", "height", "most"), [(0, 10, None), (10, -1, None), (5000, 10, None), (10, 10, 100)])
def test_sizes_out_of_range(width: int, height: int, most: int | None) -> None:
    with pytest.raises(UsageError, match=r"size of a thumbnail|too few"):
        thumbnail(picture("PNG"), width, height, most)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_files_raise_nothing_else() -> None:
    numbers = random.Random(3)
    for whole in (corners(), picture("PNG", size=(60, 60)), make.video("mp4"), picture("GIF", "P", size=(30, 30))):
        for _ in range(15):
            damaged = bytearray(whole)
            for _ in range(8):
                damaged[numbers.randrange(len(damaged))] = numbers.randrange(256)
            with suppress(DecodeError):
                assert len(thumbnail(bytes(damaged), 40, 40)) <= 10 * 1024


def test_a_process_that_drew_films_may_fork(tmp_path: Path) -> None:
    """A scaler may have threads, which are not in the child; freeing it must not wait for them."""
    code = """
import os, sys, threading
from mediasql.media.thumbnail import thumbnail
film = open(sys.argv[1], "rb").read()
drawn, end = threading.Event(), threading.Event()
def draw():
    assert thumbnail(film, 64, 64)
    drawn.set()
    end.wait()
threading.Thread(target=draw, daemon=True).start()
drawn.wait()
child = os.fork()
if not child:
    os._exit(0)
print(os.waitpid(child, 0)[1])
"""
    (tmp_path / "film.mp4").write_bytes(make.video(size=(640, 480)))
    command = [sys.executable, "-c", code, str(tmp_path / "film.mp4")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONG, check=False)
    assert (done.stdout, done.returncode) == ("0\n", 0)
