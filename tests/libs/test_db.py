"""The pool, its connections while PostgreSQL comes and goes, and migrations; on a PostgreSQL of these tests' own."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import nats.errors
import pytest

from deploy.local.mesh import POSTGRES_PROGRAMS, POSTGRES_USER, Mesh
from libs import db, migrations
from libs.errors import Unavailable
from tests.conftest import eventually, free_port

# It came up once with the mesh, which makes the user that PostgreSQL runs as.
pytestmark = pytest.mark.usefixtures("mesh")

ROOT = Path(db.__file__).parents[1]


@dataclass
class Server:
    """A PostgreSQL server that may be ill-treated."""

    folder: Path
    port: int

    def url(self, database: str = "postgres", **settings: str) -> str:
        query = "&".join(f"{name}={value}" for name, value in settings.items())
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}" + ("?" + query if query else "")

    def run(self, program: str, *arguments: str) -> None:
        as_user = ["setpriv", f"--reuid={POSTGRES_USER}", f"--regid={POSTGRES_USER}", "--clear-groups"]
        command = [*(as_user if os.geteuid() == 0 else []), str(POSTGRES_PROGRAMS / program), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")

    def start(self) -> None:
        settings = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c max_connections=40"
        self.run("pg_ctl", "start", "-w", "-D", str(self.folder), "-l", str(self.folder / "log"), "-o", settings)

    def stop(self, mode: str = "fast") -> None:
        self.run("pg_ctl", "stop", "-w", "-D", str(self.folder), "-m", mode)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    parent = tmp_path_factory.mktemp("postgresql")
    folder = parent / "data"
    folder.mkdir(mode=0o700)
    if os.geteuid() == 0:
        shutil.chown(folder, POSTGRES_USER, POSTGRES_USER)
        for path in folder.parents:
            if not path.stat().st_mode & 0o001:
                path.chmod(path.stat().st_mode | 0o001)
    server = Server(folder, free_port())
    server.run("initdb", "-D", str(folder), "-U", "postgres", "--auth=trust", "--no-sync", "--data-checksums")
    server.start()
    yield server
    server.stop("immediate")


@pytest.fixture
async def pool(server: Server) -> AsyncIterator[db.Pool]:
    pool = await db.connect(server.url(), service="test", size=4)
    yield pool
    pool.terminate()


@pytest.fixture
async def database(server: Server, word: str) -> str:
    """The address of an empty database."""
    conn = await asyncpg.connect(server.url())
    await conn.execute(f"CREATE DATABASE {word}")
    await conn.close()
    return server.url(word)


async def works(pool: db.Pool) -> bool:
    """Whether a statement gets through; it is either that or Unavailable."""
    try:
        async with db.connection(pool) as conn:
            return bool(await conn.fetchval("SELECT true"))
    except Unavailable:
        return False


async def test_a_transaction_is_kept_as_a_whole_or_not_at_all(pool: db.Pool, word: str) -> None:
    async with db.transaction(pool) as conn:
        await conn.execute(f"CREATE TABLE {word} (value integer)")
        await conn.execute(f"INSERT INTO {word} VALUES (1)")
    with pytest.raises(KeyError):
        async with db.transaction(pool) as conn:
            await conn.execute(f"INSERT INTO {word} VALUES (2)")
            raise KeyError

    assert [row["value"] for row in await pool.fetch(f"SELECT value FROM {word}")] == [1]


async def test_json_goes_in_and_out_as_it_is(pool: db.Pool) -> None:
    value = {"ar": "نص", "list": [1, None, True], "": {}}

    async with db.connection(pool) as conn:
        assert await conn.fetchval("SELECT $1::jsonb", value) == value


async def test_a_session_has_its_bounds(pool: db.Pool) -> None:
    async with db.connection(pool) as conn:
        bounds = {
            name: await conn.fetchval(f"SELECT current_setting('{name}')")
            for name in ("statement_timeout", "idle_in_transaction_session_timeout", "application_name")
        }

    assert bounds == {
        "statement_timeout": "5s",
        "idle_in_transaction_session_timeout": "10s",
        "application_name": "thmnayah-test",
    }


async def test_a_statement_ends_in_time(pool: db.Pool) -> None:
    began = time.monotonic()
    with pytest.raises(asyncpg.QueryCanceledError):
        async with db.connection(pool) as conn:
            await conn.execute("SELECT pg_sleep(30)")

    assert 4 < time.monotonic() - began < 7
    assert await works(pool)


@pytest.mark.parametrize("setting", ["synchronous_commit", "fsync"])
async def test_a_server_that_may_lose_writes_is_refused(server: Server, setting: str) -> None:
    conn = await asyncpg.connect(server.url())
    try:
        await conn.execute(f"ALTER SYSTEM SET {setting} = off")
        await conn.execute("SELECT pg_reload_conf()")
        show = f"SELECT current_setting('{setting}')"
        await eventually(lambda: conn.fetchval(show), lambda value: value == "off")
        with pytest.raises(db.NotDurable, match=f"{setting} = off"):
            await db.connect(server.url(), service="test")
    finally:
        await conn.execute(f"ALTER SYSTEM RESET {setting}")
        await conn.execute("SELECT pg_reload_conf()")
        await eventually(lambda: conn.fetchval(show), lambda value: value == "on")
        await conn.close()


async def test_a_session_that_may_lose_writes_is_refused(server: Server) -> None:
    with pytest.raises(db.NotDurable):
        await db.connect(server.url(synchronous_commit="off"), service="test")


async def test_a_server_without_checksums_is_refused(server: Server) -> None:
    server.stop()
    server.run("pg_checksums", "--disable", "--no-sync", "-D", str(server.folder))
    server.start()
    try:
        with pytest.raises(db.NotDurable, match="data_checksums = off"):
            await db.connect(server.url(), service="test")
    finally:
        server.stop()
        server.run("pg_checksums", "--enable", "--no-sync", "-D", str(server.folder))
        server.start()


async def test_while_the_server_is_away_calls_fail_soon_and_then_work_again(server: Server, pool: db.Pool) -> None:
    assert await works(pool)
    server.stop("immediate")
    try:
        for _ in range(3):
            began = time.monotonic()
            with pytest.raises(Unavailable) as caught:
                async with db.transaction(pool) as conn:
                    await conn.fetchval("SELECT 1")
            assert time.monotonic() - began < 2
            assert caught.value.metadata == {"dependency": "postgresql"}
            with pytest.raises(Unavailable):
                await db.ping(pool)
    finally:
        server.start()

    await eventually(lambda: works(pool), seconds=5)
    await db.ping(pool)


async def test_a_killed_backend_costs_unavailable_calls_and_no_acknowledged_write(
    server: Server, pool: db.Pool, word: str
) -> None:
    await pool.execute(f"CREATE TABLE {word} (value integer PRIMARY KEY)")
    stopping = asyncio.Event()
    acknowledged: set[int] = set()
    unavailable = 0

    async def write(first: int) -> None:
        nonlocal unavailable
        value = first
        while not stopping.is_set():
            value += 4
            try:
                async with db.transaction(pool) as conn:
                    await conn.execute(f"INSERT INTO {word} VALUES ($1)", value)
            except Unavailable:
                unavailable += 1
                await asyncio.sleep(0.05)
            else:
                acknowledged.add(value)

    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(write(number))
        await eventually(lambda: count(acknowledged, 40))
        conn = await asyncpg.connect(server.url())
        victim = await conn.fetchval(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'thmnayah-test' LIMIT 1"
        )
        await conn.close()
        os.kill(victim, signal.SIGKILL)
        await eventually(lambda: count(range(unavailable), 1))
        before = len(acknowledged)
        await eventually(lambda: count(acknowledged, before + 40))
        stopping.set()

    stored = {row["value"] for row in await pool.fetch(f"SELECT value FROM {word}")}
    assert acknowledged <= stored
    # Those whose commit was not heard of may be there.
    assert len(stored - acknowledged) <= unavailable


async def count(things: "set[int] | range", least: int) -> bool:
    return len(things) >= least


async def test_a_server_turned_into_a_reader_is_unavailable_for_writing_and_its_connections_are_let_go(
    server: Server, pool: db.Pool, word: str
) -> None:
    await pool.execute(f"CREATE TABLE {word} (value integer)")
    conn = await asyncpg.connect(server.url())
    try:
        await conn.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        await conn.execute("SELECT pg_reload_conf()")
        show = "SELECT current_setting('default_transaction_read_only')"
        await eventually(lambda: conn.fetchval(show), lambda value: value == "on")
        with pytest.raises(Unavailable):
            async with db.transaction(pool) as writer:
                await writer.execute(f"INSERT INTO {word} VALUES (1)")
    finally:
        await conn.execute("SET default_transaction_read_only = off")
        await conn.execute("ALTER SYSTEM RESET default_transaction_read_only")
        await conn.execute("SELECT pg_reload_conf()")
        await conn.close()

    async def writes() -> bool:
        try:
            async with db.transaction(pool) as writer:
                await writer.execute(f"INSERT INTO {word} VALUES (1)")
        except Unavailable:
            return False
        return True

    await eventually(writes, seconds=5)


async def test_who_waits_too_long_for_a_connection_is_told_to_try_again(pool: db.Pool) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(db.connection(pool))
        began = time.monotonic()
        with pytest.raises(Unavailable):
            async with db.connection(pool):
                pass
        assert time.monotonic() - began < 2

    assert await works(pool)


async def test_a_mistake_in_a_statement_is_not_blamed_on_the_server(pool: db.Pool) -> None:
    with pytest.raises(asyncpg.UndefinedTableError):
        async with db.transaction(pool) as conn:
            await conn.execute("SELECT 1 FROM not_there")
    with pytest.raises(asyncpg.DataError):
        async with db.transaction(pool) as conn:
            await conn.fetchval("SELECT $1::uuid", "no uuid")


async def test_what_else_fails_meanwhile_is_not_blamed_on_the_server(pool: db.Pool) -> None:
    """As when the outbox waits for NATS with a connection in its hands."""
    async with db.connection(pool) as conn:
        before = await conn.fetchval("SELECT pg_backend_pid()")
    for error in (nats.errors.TimeoutError, nats.errors.ConnectionClosedError, FileNotFoundError):
        with pytest.raises(error):
            async with db.connection(pool):
                raise error

    async with db.connection(pool) as conn:
        assert await conn.fetchval("SELECT pg_backend_pid()") == before


async def test_a_call_that_is_cancelled_leaves_nothing_behind_in_its_connection(server: Server, word: str) -> None:
    pool = await db.connect(server.url(), service="test", size=1)
    await pool.execute(f"CREATE TABLE {word} (value integer)")

    async def write() -> None:
        async with db.transaction(pool) as conn:
            await conn.execute(f"INSERT INTO {word} VALUES (1)")
            await conn.execute("SELECT pg_sleep(3)")

    for seconds in (0.01, 0.05, 0.2):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(write(), seconds)
        async with db.connection(pool) as conn:
            assert not conn.is_in_transaction()
            assert await conn.fetchval("SELECT pg_current_xact_id_if_assigned() IS NULL")
            assert await conn.fetchval(f"SELECT count(*) FROM {word}") == 0
    pool.terminate()


def migrating(url: str, folder: Path) -> "subprocess.Popen[bytes]":
    """A process that migrates a database."""
    program = (
        "import asyncio, pathlib, sys; from libs import migrations;"
        "asyncio.run(migrations.migrate(sys.argv[1], pathlib.Path(sys.argv[2])))"
    )
    return subprocess.Popen([sys.executable, "-c", program, url, str(folder)], cwd=ROOT, stderr=subprocess.PIPE)


def ended(process: "subprocess.Popen[bytes]") -> str:
    """What a process that fails says; "" for one that does not."""
    _, said = process.communicate(timeout=30)
    return said.decode() if process.returncode else ""


async def test_two_that_migrate_at_once_both_find_it_done(database: str) -> None:
    folder = ROOT / "services" / "content" / "migrations"

    processes = [migrating(database, folder) for _ in range(2)]
    said = await asyncio.gather(*(asyncio.to_thread(ended, process) for process in processes))

    assert said == ["", ""]
    conn = await asyncpg.connect(database)
    versions = await conn.fetch("SELECT version_num FROM alembic_version")
    await conn.close()
    assert len(versions) == 1


REVISION = '''
from libs import migrations

revision = "{number}"
down_revision = {before!r}

SQL = """
CREATE TABLE things{number} (value integer);
SELECT pg_sleep({seconds});
INSERT INTO things{number} VALUES ({number});
"""


def upgrade() -> None:
    migrations.run_script(SQL)
'''


async def test_a_migration_that_was_killed_runs_again_from_its_start(tmp_path: Path, database: str) -> None:
    for number in (1, 2, 3):
        seconds = 1.5 if number == 2 else 0
        before = str(number - 1) if number > 1 else None
        (tmp_path / f"{number}.py").write_text(REVISION.format(number=number, before=before, seconds=seconds))
    conn = await asyncpg.connect(database)
    process = migrating(database, tmp_path)
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(1.5)%' AND pid <> pg_backend_pid()"
    await eventually(lambda: conn.fetchval(sleeping))

    process.kill()
    process.communicate()
    tables = "SELECT array_agg(tablename::text ORDER BY tablename) FROM pg_tables WHERE tablename LIKE 'things%'"
    assert await conn.fetchval(tables) == ["things1"]
    await migrations.migrate(database, tmp_path)

    assert await conn.fetchval(tables) == ["things1", "things2", "things3"]
    for number in (1, 2, 3):
        assert await conn.fetchval(f"SELECT array_agg(value) FROM things{number}") == [number]
    assert await conn.fetchval("SELECT version_num FROM alembic_version") == "3"
    await conn.close()


async def test_what_is_up_to_date_is_left_alone(mesh: Mesh) -> None:
    url = mesh.database_url("content")
    conn = await asyncpg.connect(url)
    tables = "SELECT array_agg(oid::bigint ORDER BY oid) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    before = await conn.fetchval(tables)

    await migrations.migrate(url, ROOT / "services" / "content" / "migrations")

    assert await conn.fetchval(tables) == before
    await conn.close()
