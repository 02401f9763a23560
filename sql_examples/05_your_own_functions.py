"""Your own Python functions in SQL, on images, video and audio wherever they live.

Run it against the sample stores: `python -m tests.store -- python sql_examples/05_your_own_functions.py`
"""

import av.container
import PIL.Image
import PIL.ImageStat

import mediasql

con = mediasql.connect()


@con.media_function
def brightness(image: PIL.Image.Image) -> float:
    """From 0, black, to 255, white."""
    return round(PIL.ImageStat.Stat(image.convert("L")).mean[0], 1)


@con.media_function
def key_frames(video: av.container.InputContainer) -> list[float]:
    """When the key frames of a video are shown, in seconds; a list becomes JSON."""
    return [float(p.pts * p.time_base) for p in video.demux(video=0) if p.is_keyframe and p.pts is not None]


@con.media_function(batch_size=32)
def main_colour(images: list[PIL.Image.Image], names: str) -> list[str]:
    """A model is called with many images at a time. This one is small: the nearest of some named colours."""
    colours = {name: PIL.Image.new("RGB", (1, 1), name).getpixel((0, 0)) for name in names.split()}
    found = []
    for image in images:
        mean = PIL.ImageStat.Stat(image.convert("RGB")).mean
        found.append(min(colours, key=lambda name: sum((a - b) ** 2 for a, b in zip(mean, colours[name], strict=True))))
    return found


con.execute("CREATE TABLE photos(url IMAGE, brightness REAL AS (brightness(url)))")
con.execute("INSERT INTO photos(url) SELECT url FROM media('s3://media-samples/photos/*.jpg')")

print("-- the photographs, the brightest first")
for row in con.execute(
    "SELECT url_name(url), brightness, main_colour(url, 'black grey white brown navy') FROM photos ORDER BY 2 DESC"
):
    print(*row, sep=" | ")

print("-- when the key frames of each video are")
for row in con.execute("SELECT name, key_frames(url) FROM media('s3://media-samples/videos/*.mp4')"):
    print(*row, sep=" | ")

print("-- what is no image gives NULL, and says why")
print(con.execute("SELECT brightness('http://www.example.com/images/notes.jpg')").get)
print(con.execute("SELECT function, error FROM media_errors").fetchall())
