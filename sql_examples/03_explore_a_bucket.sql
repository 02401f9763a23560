-- A bucket is a table. Listing columns come from the listing: no object is opened.
SELECT name, size, last_modified IS NOT NULL AS has_time, mime_type
FROM media('s3://media-samples/photos/*');

-- What is there, by kind? Sizes are from the listing, too.
SELECT url_ext(url) AS ext, count(*) AS files, sum(size) / 1000 AS kilobytes
FROM media('s3://media-samples/**') GROUP BY ext ORDER BY kilobytes DESC;

-- Columns that need a header open the objects, and only those that WHERE leaves.
SELECT name, width, height, orientation
FROM media('s3://media-samples/photos/*.jpg') WHERE size > 35000;

-- Several kinds at once, and `**` for any depth.
SELECT name, media_type, duration, width, height
FROM media('s3://media-samples/**.{mp4,webm}') ORDER BY duration DESC;

-- EXIF: a JSON object in one column, or a row for each tag.
SELECT name, exif(url) ->> 'Model' AS camera, exif(url) ->> 'DateTimeOriginal' AS taken
FROM media('s3://media-samples/photos/*.jpg');

SELECT tags.directory, tags.name, tags.value
FROM media_exif('s3://media-samples/photos/alps.jpg') AS tags WHERE directory = 'GPS';

-- The streams inside of a video.
SELECT stream_index, type, codec, width, height, sample_rate, channels
FROM media_streams('s3://media-samples/videos/harbour.mp4');

-- A bucket can also be a table of the database, with a name.
CREATE VIRTUAL TABLE photos USING media('s3://media-samples/photos/**');
SELECT count(*) AS photos, max(width) AS widest FROM photos;

-- Keep what you found, as an ordinary table that any SQLite tool can read.
CREATE TABLE catalogue AS SELECT url, size, width, height FROM photos;
SELECT url, width * height / 1e6 AS megapixels FROM catalogue ORDER BY megapixels DESC LIMIT 3;
