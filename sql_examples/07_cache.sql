-- What was asked once is remembered on disk, for all connections and processes. Start without it.
SELECT media_cache_clear() >= 0 AS cleared;

CREATE TABLE photos(photo IMAGE);
INSERT INTO photos SELECT url FROM media('s3://media-samples/photos/*');

-- Headers are answers: they take a few hundred bytes in a database, and no file.
SELECT url_name(photo) AS name, width(photo) AS width, height(photo) AS height FROM photos;
SELECT url_name(url) AS name, size, bytes AS bytes_on_disk FROM media_cache ORDER BY name;

-- Whole objects are kept when they are read, or asked for ahead of time. After that they cost no request.
SELECT count(media_prefetch(photo)) AS prefetched FROM photos;
SELECT url_name(photo) AS name, length(content(photo)) AS read, bytes AS bytes_on_disk
FROM photos JOIN media_cache ON url = photo;

-- Another program can read them as files, as long as the statement runs.
SELECT url_name(photo) AS name, local_path(photo) LIKE '/%' AS is_a_path FROM photos LIMIT 2;

-- Has it changed? The store is asked when an answer is older than `max_age`, or now; 0 says that it has not.
SELECT media_refresh(photo) AS changed FROM photos LIMIT 1;

-- How full is it, and what did it spare?
SELECT objects, bytes, bytes_saved > bytes AS spared FROM media_cache_stats;

-- Forget one object, or all.
SELECT media_cache_evict(photo) AS freed FROM photos LIMIT 1;
SELECT media_cache_clear() AS freed;
