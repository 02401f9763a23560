-- One table, a row for each kind of URL. The scheme decides where the bytes come from; the functions are the same.
CREATE TABLE formats(format, media MEDIA);
INSERT INTO formats VALUES
  ('http',            'http://www.example.com/images/000000000036.jpg'),
  ('https',           'https://www.example.com/images/000000000090.jpg?size=full'),
  ('s3',              's3://media-samples/photos/cape town.jpg'),
  ('s3, public',      's3://public-photos/fjord.jpg'),
  ('gs',              'gs://media-samples/audio/scale.flac'),
  ('gcs',             'gcs://media-samples/audio/morning.mp3'),
  ('az',              'az://media-samples/photos/harbour-night.jpg'),
  ('abfss',           'abfss://media-samples@devstoreaccount1.dfs.core.windows.net/videos/ferry.mp4'),
  ('wasbs',           'wasbs://media-samples@devstoreaccount1.blob.core.windows.net/photos/market.png'),
  ('local path',      'local/holiday.jpg'),
  ('inside of a zip', 'zip://postcard.jpg::s3://media-samples/archive.zip'),
  ('data',            'data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7');

SELECT format, media_type(media) AS type, width(media) AS width, height(media) AS height,
       duration(media) AS seconds, byte_size(media) AS bytes
FROM formats;

-- The parts of a URL.
SELECT url_scheme(media) AS scheme, url_host(media) AS host, url_name(media) AS name, url_ext(media) AS ext
FROM formats WHERE format IN ('https', 's3', 'abfss', 'local path');

-- Which of them can be given to someone without credentials?
SELECT format, presigned_url(media, 600) IS NOT NULL AS can_be_shared FROM formats
WHERE format IN ('http', 's3', 's3, public', 'gs', 'az', 'local path');
