"""mediasql as a database of SQLAlchemy, and so of pandas: `pip install 'mediasql[sqlalchemy]' pandas`.

Run it against the sample stores: `python -m tests.store -- python sql_examples/06_sqlalchemy_and_pandas.py`
"""

import pandas
from sqlalchemy import Computed, create_engine, func, inspect, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from mediasql.plugins.sqlalchemy import Image

engine = create_engine("mediasql://?timeout=20")  # mediasql:///media.db for a file


class Base(DeclarativeBase):
    pass


class Photo(Base):
    __tablename__ = "photos"
    id: Mapped[int] = mapped_column(primary_key=True)
    image: Mapped[str] = mapped_column(Image)
    width: Mapped[int | None] = mapped_column(Computed("width(image)"))


Base.metadata.create_all(engine)
with Session(engine) as session:
    names = ["alps.jpg", "berlin.jpg", "scan.png"]
    session.add_all(Photo(image=f"s3://media-samples/photos/{name}") for name in names)  # no request is made
    session.commit()
    print("-- the widest first")
    for photo in session.scalars(select(Photo).order_by(Photo.width.desc())):
        print(photo.id, photo.image, photo.width)

print("-- a bucket is a table")
media = func.media("s3://media-samples/videos/*").table_valued("name", "size", "duration")
with engine.connect() as connection:
    for row in connection.execute(select(media).where(media.c.duration > 4)):
        print(*row)

print("-- pandas")
frame = pandas.read_sql("SELECT url_name(image) AS name, width, height(image) AS height FROM photos", engine)
frame["megapixels"] = frame.width * frame.height / 1e6
print(frame.to_string(index=False))
frame.to_sql("sizes", engine, index=False)

print("-- what is in the database")
for table in inspect(engine).get_table_names():
    for column in inspect(engine).get_columns(table):
        computed = f"AS ({column['computed']['sqltext']})" if "computed" in column else ""
        print(f"{table}.{column['name']} {column['type']} {computed}".rstrip())
