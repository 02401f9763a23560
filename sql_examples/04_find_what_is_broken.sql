-- Someone filled an inbox. What of it can be used?
SELECT name, size, error FROM media('s3://media-samples/inbox/**');

-- media_error says why one URL cannot be read; NULL when it can.
CREATE TABLE incoming(media MEDIA);
INSERT INTO incoming VALUES
  ('http://www.example.com/images/000000000036.jpg'),
  ('http://www.example.com/images/missing.jpg'),
  ('http://www.example.com/images/notes.jpg'),
  ('s3://media-private/secret.jpg'),
  ('s3://media-samples/photos/nowhere.jpg'),
  ('local/holiday.jpg'),
  ('local/nowhere.jpg');
SELECT media, media_error(media) AS error FROM incoming;

-- A query does not fail because some of its media do: their values are NULL.
SELECT url_name(media) AS name, width(media) AS width FROM incoming;

-- What failed since the connection was opened, and how.
SELECT url, function, kind, status, error FROM media_errors WHERE function = 'width';

-- Keep what is wrong beside the data, to mend it later. A failure of the moment (a timeout, a 503) would be NULL here
-- in a query, but while writing it stops the statement, so that nothing wrong is stored.
SELECT add_computed_column('incoming', 'width', 'width(media)');
SELECT media, width IS NULL AS broken FROM incoming ORDER BY broken, media;
