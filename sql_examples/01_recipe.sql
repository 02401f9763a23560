-- A table holds the URLs of media: on the web, in S3, in Google Cloud Storage, on disk.
-- Nothing is downloaded, and INSERT makes no request.
CREATE TABLE images(image IMAGE);
INSERT INTO images VALUES
  ('http://www.example.com/images/000000000036.jpg'),
  ('http://www.example.com/images/000000000090.jpg'),
  ('http://www.example.com/images/000000000106.jpg');

CREATE TABLE videos(video VIDEO);
INSERT INTO videos VALUES
  ('s3://media-samples/videos/clock.mp4'),
  ('s3://media-samples/videos/harbour.mp4'),
  ('s3://media-samples/videos/tide.mp4');

CREATE TABLE recordings(audio AUDIO);
INSERT INTO recordings VALUES
  ('gs://media-samples/audio/morning.mp3'),
  ('gs://media-samples/audio/scale.flac'),
  ('local/bell.wav');

-- Computed columns are generated columns, added by plain SQL. Still no request.
ALTER TABLE images ADD COLUMN width INT AS (width(image));
ALTER TABLE images ADD COLUMN height INT AS (height(image));

-- Now each photograph is asked for its first few kilobytes.
SELECT image, width, height FROM images;

-- Any query works on them as on other columns.
SELECT url_name(image) AS name, width, height FROM images WHERE width > height ORDER BY height DESC;

-- Video and audio answer from their headers too.
SELECT url_name(video) AS name, duration(video) AS seconds, frame_rate(video) AS fps,
       width(video) AS width, height(video) AS height, video_codec(video) AS codec
FROM videos;

SELECT url_name(audio) AS name, duration(audio) AS seconds, sample_rate(audio) AS rate,
       channels(audio) AS channels, audio_codec(audio) AS codec
FROM recordings;

-- The full URL of each, and a link that anyone can open for an hour.
-- (Shortened here to fit the page.) A local file has no such link, and gives NULL.
SELECT fileurl(video) AS url, substr(presigned_url(video, 3600), 1, 70) || '…' AS presigned FROM videos;

SELECT url_name(audio) AS name, substr(presigned_url(audio, 3600), 1, 70) || '…' AS presigned FROM recordings;

-- A link in every row, signed afresh by each query, so that it has never expired.
ALTER TABLE videos ADD COLUMN serving_url TEXT AS (presigned_url(video, 86400));
SELECT url_name(video) AS name, serving_url LIKE '%X-Amz-Expires=86400%' AS valid_for_a_day FROM videos;
