"""What a file probably is, by the extension of its name."""

from __future__ import annotations

_EXTENSIONS = {
    "image": "apng avif bmp dib gif heic heif jfif jp2 jpe jpeg jpg jxl png tif tiff webp",
    "video": "3g2 3gp avi flv m2ts m4v mkv mov mp4 mpeg mpg mts ogv ts webm wmv",
    "audio": "aac aif aiff amr caf flac m4a mka mp3 oga ogg opus wav wma",
}
KINDS = {extension: kind for kind, extensions in _EXTENSIONS.items() for extension in extensions.split()}
