"""The files that the examples in docstrings are about: photo.jpg, clip.mp4 and song.flac.

photo.jpg is 640x480 with EXIF (orientation 6, Model 'Sample X100', GPSLatitudeRef N), clip.mp4 320x240 at 25 frames a
second for 2.0 s with H.264 and AAC, song.flac 3.0 s of stereo at 44,100 Hz. `python -m tests.example_media FOLDER`
writes them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import ExifTags, Image

from tests.media import make


def write(folder: Path) -> None:
    """Write the three files into `folder`."""
    exif = Image.Exif()
    exif[ExifTags.Base.Model] = "Sample X100"
    exif[ExifTags.Base.Orientation] = 6
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    Image.linear_gradient("L").resize((640, 480)).convert("RGB").save(folder / "photo.jpg", exif=exif)
    clip = make.video("mp4", size=(320, 240), frames=50, rate=25, audio_codec="aac")
    (folder / "clip.mp4").write_bytes(clip)
    (folder / "song.flac").write_bytes(make.audio("flac", codec="flac", seconds=3.0))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
