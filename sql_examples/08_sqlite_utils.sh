# A table of the URLs that match; nothing is opened. Another time, --ignore adds those that are new.
sqlite-utils media add media.db photos 's3://media-samples/photos/*' --type image
sqlite-utils media add media.db photos 's3://media-samples/**.jpg' --ignore
# A column that is kept, for any tool to read and index, and one that each query computes.
sqlite-utils media add-column media.db photos width 'width(image)'
sqlite-utils media add-column media.db photos height 'height(image)' --virtual
sqlite-utils schema media.db
# All functions and tables are in all other commands, too.
sqlite-utils media.db 'SELECT url_name(image) AS name, width, height FROM photos WHERE width > 1000' -t
sqlite-utils memory "SELECT name, duration FROM media('gs://media-samples/audio/*')" --csv
sqlite-utils insert media.db photos - --csv <<< $'image\nhttp://www.example.com/images/000000000036.jpg'
sqlite-utils rows media.db photos --where "image LIKE 'http:%'"
