"""JPEGs with the headers of the real world: what stands before the picture decides how many requests a reader needs.

One picture is encoded for each, and its header spliced in. The shares are a guess, made once for all our measurements.
"""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter

from PIL import Image

SEGMENT = 65_533  # bytes of payload, at most
GOLDEN = 0.618034  # multiples of it spread sizes evenly too
NOISE = 2600  # pixels, the side of the picture from which all others are cut


def segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def exif(chance: random.Random, makernote: int = 0, thumbnail: int = 0) -> bytes:
    """A block as cameras write it: a first directory, Exif's own with a note of the maker's, one of the thumbnail."""
    make, model = b"Camera Works\0", b"Model 7, made for measuring\0"
    note = chance.randbytes(makernote)
    small = b"\xff\xd8" + chance.randbytes(thumbnail)
    data_at = 8 + (2 + 5 * 12 + 4) + (2 + 2 * 12 + 4) + (2 + 3 * 12 + 4)
    at_make, at_model = data_at, data_at + len(make)
    at_note = at_model + len(model) + len(model) % 2
    at_small = at_note + len(note)
    at_exif, at_second = 8 + 66, 8 + 66 + 30
    first = [
        (0x010F, 2, len(make), at_make),
        (0x0110, 2, len(model), at_model),
        (0x0112, 3, 1, chance.choice((1, 1, 1, 6)) << 16),
        (0x0128, 3, 1, 2 << 16),
        (0x8769, 4, 1, at_exif),
    ]
    own = [(0x9000, 7, 4, 0x30323330), (0x927C, 7, len(note), at_note)]
    second = [(0x0103, 3, 1, 6 << 16), (0x0201, 4, 1, at_small), (0x0202, 4, 1, len(small))]
    block = b"MM\0*" + struct.pack(">L", 8)
    for entries, following in ((first, at_second if thumbnail else 0), (own, 0), (second, 0)):
        fields = b"".join(struct.pack(">HHLL", *entry) for entry in entries)
        block += struct.pack(">H", len(entries)) + fields + struct.pack(">L", following)
    block += make + model + bytes(len(model) % 2) + note + small
    return segment(0xE1, b"Exif\0\0" + block)


def icc(chance: random.Random, size: int) -> bytes:
    data = chance.randbytes(size)
    room = SEGMENT - 14
    parts = [data[at : at + room] for at in range(0, size, room)]
    return b"".join(segment(0xE2, b"ICC_PROFILE\0" + bytes((i + 1, len(parts))) + p) for i, p in enumerate(parts))


def xmp(size: int) -> bytes:
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"></x:xmpmeta>' + b" " * size
    return segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet)


def photoshop(chance: random.Random, size: int) -> bytes:
    room = 60_000
    parts = [chance.randbytes(min(room, size - at)) for at in range(0, size, room)]
    return b"".join(
        segment(0xED, b"Photoshop 3.0\0" + b"8BIM" + struct.pack(">HHL", 4000 + i, 0, len(p)) + p + bytes(len(p) % 2))
        for i, p in enumerate(parts)
    )


# Of every 200 pictures, so many have such a header.
HEADERS: dict[str, tuple[int, Callable[[random.Random], bytes]]] = {
    "plain": (40, lambda chance: b""),
    "small EXIF": (50, lambda chance: exif(chance, makernote=chance.randrange(200, 2500))),
    "EXIF and thumbnail": (60, lambda chance: exif(chance, 1200, chance.choice((4000, 5500, 9000)))),
    "EXIF, ICC and XMP": (
        24,
        lambda chance: exif(chance, 2000, 9000) + icc(chance, 3144) + xmp(chance.randrange(3000, 14_000)),
    ),
    "camera": (16, lambda chance: exif(chance, 24_000, chance.randrange(10_000, 33_000))),
    "Photoshop": (7, lambda chance: exif(chance, 500, 6000) + photoshop(chance, chance.randrange(30_000, 110_000))),
    "large ICC": (3, lambda chance: exif(chance, 500) + icc(chance, 560_000)),
}


@dataclass(frozen=True)
class Picture:
    data: bytes
    width: int
    height: int


def pictures(count: int, pixels: int = 900_000) -> list[Picture]:
    """`count` pictures of some `pixels` each (200 have the shares above), one in five progressive, no two of a size."""
    chance = random.Random(20)
    # Spread evenly, so that any number of files from the first on has nearly the shares of all.
    spread = [((n + chance.random()) / share, make) for share, make in HEADERS.values() for n in range(share)]
    kinds = [make for _, make in sorted(spread, key=itemgetter(0))]
    side = min(NOISE, int((pixels * 8) ** 0.5))
    grain = Image.frombytes("RGB", (side, side), chance.randbytes(3 * side * side))
    noise = Image.blend(Image.new("RGB", grain.size, "grey"), grain, 0.35)
    found: list[Picture] = []
    sizes = set()
    while len(found) < count:
        area, ratio = (
            pixels * (0.45 + 1.35 * (len(found) * GOLDEN % 1)),
            chance.choice((1.5, 4 / 3, 16 / 9, 1, 0.75, 2 / 3)),
        )
        width, height = int((area * ratio) ** 0.5), int((area / ratio) ** 0.5)
        if (width, height) in sizes:
            continue
        sizes.add((width, height))
        buffer = io.BytesIO()
        noise.crop((0, 0, width, height)).save(buffer, "JPEG", quality=70, progressive=len(found) % 5 == 0)
        base = buffer.getvalue()
        found.append(Picture(base[:20] + kinds[len(found) % len(kinds)](chance) + base[20:], width, height))
    return found
