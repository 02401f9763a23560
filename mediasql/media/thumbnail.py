"""Small pictures of images, and of video and audio the first key frame or the cover."""

from __future__ import annotations

import io
from typing import Any

from ..errors import DecodeError, UsageError
from .image import draws, exif_of
from .video import first_picture

LARGEST = 4096  # pixels; what is larger is no thumbnail
SMALLEST = 1024  # bytes; a picture of one pixel has to fit
# The transposition for EXIF orientations 2 to 8 (EXIF 2.32, section 4.6.4), by `PIL.Image.Transpose`'s names.
_UPRIGHT = ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")
_QUALITIES = (82, 65, 45, 25)
_SHRINK = 0.7  # of width and height, where no quality is low enough


def thumbnail(media: bytes | Any, width: int, height: int, most_bytes: int | None = 10 * 1024) -> bytes:
    """A picture of `media`, bytes or a binary file, upright and no larger than `width` x `height` pixels.

    It keeps its proportions and is never enlarged. JPEG, or WebP where the picture has transparent parts; without
    metadata. Quality, and then size, are lowered until it takes no more than `most_bytes`; None: what it takes.
    A file is read no further than needed. Raises DecodeError for what has no picture, UsageError for a size out of
    range (1 to 4096 pixels, 1024 bytes or more).
    """
    for length in (width, height):
        if not 1 <= length <= LARGEST:
            raise UsageError(f"{length} pixels is no size of a thumbnail; 1 to {LARGEST} are possible")
    if most_bytes is not None and most_bytes < SMALLEST:
        raise UsageError(f"{most_bytes} bytes are too few for a thumbnail; {SMALLEST} is the least")
    file = io.BytesIO(media) if isinstance(media, bytes) else media
    box = width, height
    image = _picture(file, box)
    if image is None:
        file.seek(0)
        image = first_picture(file, box)
    try:
        return _encoded(image, most_bytes)
    finally:
        image.close()


def _picture(file: Any, box: tuple[int, int]) -> Any:
    """What Pillow draws, at most as large as `box`; None where it does not know the format."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            if not draws(image):
                return None
            orientation, _ = exif_of(image)
            inner = box[::-1] if (orientation or 1) >= 5 else box
            image.draft(None, (2 * inner[0], 2 * inner[1]))  # JPEG: decoded at a fraction of its size
            small = _plain(image)
            small.thumbnail(inner, Image.Resampling.LANCZOS, reducing_gap=2.0)
            return small if orientation in (None, 1) else small.transpose(Image.Transpose[_UPRIGHT[orientation - 2]])
    except UnidentifiedImageError:
        return None
    except DecodeError:
        raise
    except Image.DecompressionBombError as error:
        raise DecodeError(f"too large an image to be decoded: {error}") from None
    except Exception as error:  # the plugins raise whatever a damaged file leads them to
        raise DecodeError(f"a damaged image: {error or type(error).__name__}") from None


def _plain(image: Any) -> Any:
    """The first frame as RGB or L, with alpha where it has transparent parts."""
    image.load()
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        wide = image.convert("F")
        least, most = (0.0, 65535.0) if image.mode.startswith("I;16") else wide.getextrema()
        scale = 255 / (most - least) if most > least else 0.0
        plain = wide.point(lambda value: value * scale - least * scale).convert("L")
    elif image.has_transparency_data:
        plain = image.convert("RGBA")
    else:
        plain = image.convert("L" if image.mode in ("1", "L") else "RGB")
    return plain.copy() if plain is image else plain


def _encoded(image: Any, most_bytes: int | None) -> bytes:
    from PIL import Image

    transparent = image.mode == "RGBA" and image.getextrema()[3][0] < 255
    if image.mode == "RGBA" and not transparent:
        image = image.convert("RGB")
    image.info.clear()  # or Pillow writes comments of the original
    options: dict[str, Any] = {"format": "WEBP", "method": 4} if transparent else {"format": "JPEG", "optimize": True}
    while True:
        for quality in _QUALITIES:
            file = io.BytesIO()
            image.save(file, quality=quality, **options)
            if most_bytes is None or file.tell() <= most_bytes:
                return file.getvalue()
        size = tuple(max(1, int(length * _SHRINK)) for length in image.size)
        image = image.resize(size, Image.Resampling.LANCZOS)
