"""The SQLAlchemy dialect: Core, the ORM, reflection, engine options, and pandas through it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pandas
import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.orm import Mapped

import mediasql
from mediasql.plugins.sqlalchemy import Audio, Image, Media, Video
from tests.sql.conftest import Web


class Base(orm.DeclarativeBase):
    pass


class Photo(Base):
    __tablename__ = "photos"
    id: Mapped[int] = orm.mapped_column(primary_key=True)
    image: Mapped[str] = orm.mapped_column(Image)
    note: Mapped[str | None] = orm.mapped_column(unique=True)
    width: Mapped[int | None] = orm.mapped_column(sa.Computed("width(image)"))
    label: Mapped[str | None] = orm.mapped_column(sa.Computed("coalesce(note, 'none') || '(,)' || id", persisted=True))


@pytest.fixture
def engine() -> Iterator[sa.Engine]:
    made = sa.create_engine("mediasql://?timeout=20")
    Base.metadata.create_all(made)
    yield made
    made.dispose()


def test_it_is_installed() -> None:
    """When this fails, the installation is older than pyproject.toml: `pip install -e '.[dev]'` once more."""
    found = {entry.name: entry.value for entry in entry_points(group="sqlalchemy.dialects")}
    dialect = "mediasql.plugins.sqlalchemy:MediaDialect"
    assert {"mediasql": dialect, "sqlite.mediasql": dialect}.items() <= found.items(), test_it_is_installed.__doc__


def test_without_sqlalchemy_it_says_how_to_get_it() -> None:
    script = (
        "import sys; sys.modules['sqlalchemy'] = None\n"
        "import mediasql\n"
        "try: import mediasql.plugins.sqlalchemy\n"
        "except mediasql.MissingExtra as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "pip install 'mediasql[sqlalchemy]'" in done.stdout


# --- engines ---------------------------------------------------------------------------------------------------------


def test_the_url_has_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "a.db"
    for prefix in ("mediasql", "sqlite+mediasql"):
        engine = sa.create_engine(f"{prefix}:///{file}?timeout=7.5&on_error=raise&busy_timeout=0.5")
        with engine.connect() as con:
            query = sa.text("SELECT media_config('timeout'), media_config('on_error')")
            assert con.execute(query).one() == (7.5, "raise")
            assert con.execute(sa.text("PRAGMA busy_timeout")).scalar() == 500
        assert (engine.dialect.name, engine.driver, type(engine.pool)) == ("sqlite", "mediasql", sa.QueuePool)
        engine.dispose()
    engine = sa.create_engine("mediasql://?profile=hosted&allow=s3://a&allow=s3://b/c")
    with engine.connect() as con, pytest.raises(sa.exc.ProgrammingError, match="s3://d"):
        con.execute(sa.text("SELECT width('s3://d/x.jpg')"))
    engine.dispose()
    engine = sa.create_engine("mediasql://", connect_args={"storage_options": {"s3": {"anon": True}}})
    with engine.connect() as con:
        assert con.execute(sa.text("SELECT 1")).scalar() == 1
    engine.dispose()
    assert file.exists()


@pytest.mark.parametrize(
    ("url", "error", "match"),
    [
        ("mediasql://?colour=red", mediasql.ConfigError, "colour"),
        ("mediasql://?timeout=soon", mediasql.ConfigError, "timeout: 'soon'"),
        ("mediasql://?busy_timeout=soon", mediasql.ConfigError, "busy_timeout: 'soon'"),
        ("mediasql://server/x.db", sa.exc.ArgumentError, "mediasql:///relative.db"),
    ],
)
def test_a_url_that_is_wrong(url: str, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        sa.create_engine(url)


def test_threads_share_a_database_in_memory(engine: sa.Engine) -> None:
    seen: list[int | None] = []

    def count() -> None:
        with engine.connect() as con:
            seen.append(con.scalar(sa.select(sa.func.count()).select_from(Photo)))

    with orm.Session(engine) as session, session.begin():
        session.add(Photo(image="a.jpg"))
    thread = threading.Thread(target=count)
    thread.start()
    thread.join()
    assert seen == [1]


def test_threads_have_connections_of_their_own_to_a_file(tmp_path: Path, web: Web) -> None:
    engine = sa.create_engine(f"mediasql:///{tmp_path / 'a.db'}?timeout=20")
    Base.metadata.create_all(engine)

    def add(number: int) -> None:
        with orm.Session(engine) as session, session.begin():
            session.add_all(Photo(image=web.url(number)) for _ in range(5))

    threads = [threading.Thread(target=add, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with engine.connect() as con:
        widths = con.execute(sa.select(Photo.width, sa.func.count()).group_by(Photo.width)).all()
    assert widths == [(100 + n, 5) for n in range(4)]
    engine.dispose()


def test_transactions(engine: sa.Engine) -> None:
    count = sa.select(sa.func.count()).select_from(Photo)
    with engine.connect() as con:
        con.execute(sa.insert(Photo).values(image="a"))
        con.execute(sa.text("CREATE TABLE other(a)"))
        con.rollback()
        assert con.scalar(count) == 0
        assert not sa.inspect(con).has_table("other")
    with engine.begin() as con:
        with con.begin_nested():
            con.execute(sa.insert(Photo).values(image="kept"))
        with pytest.raises(sa.exc.IntegrityError, match="UNIQUE"), con.begin_nested():
            con.execute(sa.insert(Photo), [{"image": "x", "note": "same"}, {"image": "y", "note": "same"}])
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as con:
        con.execute(sa.insert(Photo).values(image="at once"))
        con.rollback()
        assert con.scalars(sa.select(Photo.image)).all() == ["kept", "at once"]


# --- media -----------------------------------------------------------------------------------------------------------


def test_core(engine: sa.Engine, web: Web) -> None:
    photos = Photo.__table__
    with engine.begin() as con:
        rows = [{"image": web.url(n, "together/4/"), "note": f"n{n}"} for n in range(9, -1, -1)]
        con.execute(sa.insert(photos), rows)
        assert not web.asked(), "INSERT makes no request"
        rows = con.execute(
            sa.select(photos.c.note, photos.c.width, sa.func.height(photos.c.image).label("height"))
            .where(photos.c.image.like("http%"), sa.func.width(photos.c.image) > 104)
            .order_by(photos.c.image)
        ).all()
        assert rows == [(f"n{n}", 100 + n, 50) for n in range(5, 10)]
        assert max(web.asked().values()) == 1
        changed = con.execute(sa.update(photos).where(photos.c.width < 102).values(note=None))
        assert changed.rowcount == 2
        again = upsert(photos).values(image=web.url(1), note="n9").returning(photos.c.id, photos.c.width)
        again = again.on_conflict_do_update(index_elements=["note"], set_={"image": again.excluded.image})
        assert con.execute(again).one() == (1, 101)


def test_the_orm(engine: sa.Engine, web: Web) -> None:
    with orm.Session(engine) as session:
        photos = [Photo(image=web.url(n)) for n in range(4)]
        session.add_all(photos)
        session.commit()
        assert not web.asked(), "INSERT makes no request"
        assert [photo.id for photo in photos] == [1, 2, 3, 4]
        assert (photos[3].width, photos[3].label) == (103, "none(,)4")
        photos[0].image = web.url(9)
        session.commit()
        assert photos[0].width == 109
        wide = sa.select(Photo).where(Photo.width > 101).order_by(Photo.width.desc())
        assert [photo.id for photo in session.scalars(wide)] == [1, 4, 3]


def test_a_mapper_that_wants_its_values_at_once_gets_them(web: Web) -> None:
    class Own(orm.DeclarativeBase):
        pass

    class Eager(Own):
        __tablename__ = "eager"
        __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012
        id: Mapped[int] = orm.mapped_column(primary_key=True)
        image: Mapped[str] = orm.mapped_column(Image)
        width: Mapped[int | None] = orm.mapped_column(sa.Computed("width(image)"))

    engine = sa.create_engine("mediasql://?timeout=20")
    Own.metadata.create_all(engine)
    with orm.Session(engine) as session:
        session.add(Eager(image=web.url(3)))
        session.flush()
        assert sum(web.asked().values()) == 1
    engine.dispose()


def test_media_itself(engine: sa.Engine, web: Web) -> None:
    table = sa.Table("blobs", sa.MetaData(), sa.Column("media", Media))
    table.create(engine)
    with engine.begin() as con:
        con.execute(sa.insert(table).values(media=sa.func.content(web.url(2))))
        data, width = con.execute(sa.select(table.c.media, sa.func.width(table.c.media))).one()
        assert (data[:2], width) == (b"\xff\xd8", 102)
        con.execute(sa.insert(table), [{"media": data}])
        assert con.scalar(sa.select(sa.func.count(sa.distinct(table.c.media)))) == 1


def test_tables_of_mediasql_are_functions(engine: sa.Engine, web: Web) -> None:
    media = sa.func.media(web.url(5)).table_valued("url", "mime_type", "width")
    with engine.connect() as con:
        rows = con.execute(sa.select(media.c.mime_type, media.c.width)).all()
    assert rows == [("image/jpeg", 105)]


def test_errors(engine: sa.Engine) -> None:
    with engine.connect() as con:
        with pytest.raises(sa.exc.ProgrammingError, match="nothing://x") as caught:
            con.execute(sa.select(sa.func.width("nothing://x")))
        assert isinstance(caught.value.orig, mediasql.UnknownScheme)
        con.rollback()
        with pytest.raises(sa.exc.OperationalError, match="no such table"):
            con.execute(sa.text("SELECT * FROM nowhere"))


def test_regular_expressions(engine: sa.Engine) -> None:
    with engine.begin() as con:
        con.execute(sa.insert(Photo), [{"image": name, "note": name} for name in ("a.jpg", "b.png")])
        con.execute(sa.insert(Photo).values(image="c.jpg"))
        assert con.scalars(sa.select(Photo.note).where(Photo.note.regexp_match(r"\.jpg$"))).all() == ["a.jpg"]


# --- reflection ------------------------------------------------------------------------------------------------------

GENERATED = [
    ("a", "a INT AS (width(media))", "width(media)", False),
    ("b", "b TEXT GENERATED ALWAYS AS (presigned_url(media, 3600)) VIRTUAL", "presigned_url(media, 3600)", False),
    ("c, d", '"c, d" INT NOT NULL AS (max(height(media), (2))) STORED', "max(height(media), (2))", True),
    ("as", "[as] TEXT AS /* so */ (')' || ',') -- said\n", "')' || ','", False),
]


def test_reflection(engine: sa.Engine) -> None:
    definitions = ", ".join(definition for _, definition, *_ in GENERATED)
    with engine.begin() as con:
        con.exec_driver_sql(f"CREATE TABLE t(media MEDIA, v VIDEO, s audio, n TEXT DEFAULT 'as', {definitions})")
        con.exec_driver_sql("ALTER TABLE photos ADD COLUMN height INT AS (height(image))")
    columns = {column["name"]: column for column in sa.inspect(engine).get_columns("t")}
    assert [type(columns[name]["type"]) for name in ("media", "v", "s")] == [Media, Video, Audio]
    for name, _, expression, persisted in GENERATED:
        assert columns[name]["computed"] == {"sqltext": expression, "persisted": persisted}, name
    assert "computed" not in columns["n"]

    metadata = sa.MetaData()
    metadata.reflect(engine)
    photos = metadata.tables["photos"]
    assert type(photos.c.image.type) is Image
    computed = {c.name: (str(c.computed.sqltext), c.computed.persisted) for c in photos.c if c.computed is not None}
    label = "coalesce(note, 'none') || '(,)' || id"
    assert computed == {"width": ("width(image)", False), "label": (label, True), "height": ("height(image)", False)}

    other = sa.create_engine("mediasql://")
    metadata.create_all(other, tables=[photos, metadata.tables["t"]])
    again = sa.MetaData()
    again.reflect(other)
    assert [str(sa.schema.CreateTable(table)) for table in again.sorted_tables] == [
        str(sa.schema.CreateTable(table)) for table in metadata.sorted_tables
    ]
    other.dispose()


# --- pandas ----------------------------------------------------------------------------------------------------------


def test_pandas(engine: sa.Engine, web: Web) -> None:
    frame = pandas.DataFrame(
        {
            "image": [web.url(n) for n in range(4)] + [None],
            "taken": pandas.to_datetime(["2024-01-02 03:04:05"] * 5),
            "stars": [1, 2, 3, 4, 5],
            "weight": [0.5, None, 1.5, 2.5, 3.5],
        }
    )
    assert frame.to_sql("frames", engine, index=False, dtype={"image": Image}) == 5
    pandas.testing.assert_frame_equal(
        pandas.read_sql_table("frames", engine), frame, check_dtype=False, check_index_type=False
    )
    assert frame.to_sql("frames", engine, index=False, if_exists="append", method="multi", chunksize=2) == 5
    assert not web.asked()
    read = pandas.read_sql(
        "SELECT stars, width(image) AS width FROM frames WHERE stars < ? LIMIT 3", engine, params=(4,)
    )
    assert read.to_dict("list") == {"stars": [1, 2, 3], "width": [100, 101, 102]}
    empty = pandas.read_sql("SELECT stars, width(image) AS width FROM frames WHERE 0", engine)
    assert (list(empty.columns), len(empty)) == (["stars", "width"], 0)
    chunks = list(pandas.read_sql("SELECT stars FROM frames", engine, chunksize=4))
    assert [len(chunk) for chunk in chunks] == [4, 4, 2]
    with engine.begin() as con:
        frame.head(1).to_sql("frames", con, if_exists="replace", index=False)
    assert pandas.read_sql("SELECT count(*) AS n FROM frames", engine)["n"].item() == 1
