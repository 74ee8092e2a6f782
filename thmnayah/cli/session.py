"""Signing in and out; a sign-in is kept in a file of the user's own, one for each server."""

import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated
from urllib.parse import quote

import grpc
import platformdirs
import typer

from thmnayah.auth.v1.auth_pb2 import (
    RECOVERY_CODE,
    TOTP,
    GetMeRequest,
    LoginRequest,
    LogoutRequest,
    MfaChallenge,
    Tokens,
)
from thmnayah.auth.v1.mfa_pb2 import VerifyMfaRequest
from thmnayah.auth.v1.users_pb2 import ListUsersRequest
from thmnayah.cli.terminal import (
    DEFAULT_LOCALE,
    DEFAULT_SERVER,
    AsJson,
    CommandError,
    Locale,
    Server,
    out,
    print_json,
)
from thmnayah.client import ApiError, Mesh, Session, connect, endpoint

if TYPE_CHECKING:
    from thmnayah.auth.v1.auth_pb2_grpc import AuthServiceAsyncStub

Who = Annotated[str, typer.Argument(metavar="WHO", help="The person's e-mail address, or the account's id.")]

# Longer than a refresh by another process may take.
LOCK_SECONDS = 15.0
TOTP_DIGITS = 6


class StoredSession(Session):
    """A session in a file, which several processes may use at once.

    A refresh token works once, so whoever renews holds the file's lock, and takes what another
    process has stored in the meantime rather than using a refresh token a second time.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._load()

    async def renew(self, auth: "AuthServiceAsyncStub") -> None:
        """Get new tokens and store them; an ended session is forgotten."""
        with await self._locked():
            refused = self.tokens.access_token
            self._load()
            if not self.tokens.refresh_token or (self.tokens.access_token != refused and not self.ends_soon):
                return
            try:
                await super().renew(auth)
            except ApiError as error:
                if error.code() == grpc.StatusCode.UNAUTHENTICATED:
                    self._path.unlink(missing_ok=True)
                raise
            self._save()

    async def begin(self, tokens: Tokens) -> None:
        """Store the tokens of a new session."""
        with await self._locked():
            self.keep(tokens)
            self._save()

    async def end(self) -> None:
        """Forget the session on this machine."""
        with await self._locked():
            self._path.unlink(missing_ok=True)
            self.keep(Tokens())

    def _load(self) -> None:
        try:
            stored = json.loads(self._path.read_text("utf-8"))
            tokens = Tokens(access_token=stored["accessToken"], refresh_token=stored["refreshToken"])
            expire_time = float(stored["expireTime"])
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            tokens, expire_time = Tokens(), 0.0  # nobody is signed in, or has to do it again
        self.keep(tokens, expire_time=expire_time)

    def _save(self) -> None:
        stored = {
            "accessToken": self.tokens.access_token,
            "refreshToken": self.tokens.refresh_token,
            "expireTime": self.expire_time,
        }
        descriptor, name = tempfile.mkstemp(dir=self._path.parent, prefix=f"{self._path.name}.")  # with mode 0600
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(stored, file)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(self._path)

    async def _locked(self) -> IO[bytes]:
        """The lock, held until it is closed."""
        return await asyncio.to_thread(_lock, self._path.with_name(f"{self._path.name}.lock"))


def stored_session(server: str) -> StoredSession:
    """The session with a server, anonymous when nobody is signed in.

    Raises:
        CommandError: the address cannot be read.
    """
    try:
        target, secure = endpoint(server)
    except ValueError as error:
        raise CommandError(f"--server: {error}") from None
    folder = Path(os.environ.get("THMNAYAH_CONFIG_DIR") or platformdirs.user_config_path("thmnayah", appauthor=False))
    return StoredSession(folder / "sessions" / f"{quote(f'https://{target}' if secure else target, safe='')}.json")


def connect_as_user(server: str, locale: str) -> Mesh:
    """A client with the stored session."""
    return connect(server, session=stored_session(server), locale=locale)


async def login(
    email: Annotated[str, typer.Argument(help="Your e-mail address; asked for when left out.")] = "",
    *,
    server: Server = DEFAULT_SERVER,
    locale: Locale = DEFAULT_LOCALE,
    as_json: AsJson = False,
) -> None:
    """Sign in; later commands to the same server act as you.

    The password is asked for, or read from THMNAYAH_PASSWORD or from standard input. So is the code of an
    authenticator app, or a recovery code, where your account has a second factor: the line after it.
    """
    session = stored_session(server)
    email = email or typer.prompt("E-mail", err=True)
    password = read_password("Password")
    async with connect(server, session=session, locale=locale) as mesh:
        request = LoginRequest(email=email, password=password, device_name=platform.node()[:100])
        tokens = await mesh.auth.Login(request)
        if tokens.HasField("mfa"):
            tokens = await mesh.mfa.VerifyMfa(_read_factor(tokens.mfa))
        if tokens.HasField("mfa"):
            raise CommandError("your role demands another second factor: add one in a browser first")
        await session.begin(tokens)
        user = await mesh.auth.GetMe(GetMeRequest())
    if as_json:
        print_json(user)
    else:
        out.print(f"Signed in to {server} as {user.email} ({', '.join(user.roles)}).", markup=False)


async def logout(*, server: Server = DEFAULT_SERVER, locale: Locale = DEFAULT_LOCALE) -> None:
    """Sign out: the session ends on the server and is forgotten here."""
    session = stored_session(server)
    refresh_token = session.tokens.refresh_token
    await session.end()
    if refresh_token:
        async with connect(server, locale=locale) as mesh:
            await mesh.auth.Logout(LogoutRequest(refresh_token=refresh_token))
    out.print(f"Signed out of {server}." if refresh_token else f"Nobody was signed in to {server}.", markup=False)


def read_password(question: str, *, confirm: bool = False) -> str:
    """A password from THMNAYAH_PASSWORD, standard input or a hidden prompt, never from the arguments."""
    given = os.environ.get("THMNAYAH_PASSWORD", "")
    if not given and not sys.stdin.isatty():
        given = sys.stdin.readline().rstrip("\r\n")
        if not given:
            raise CommandError("no password: set THMNAYAH_PASSWORD or give it on standard input")
    return given or str(typer.prompt(question, hide_input=True, confirmation_prompt=confirm, err=True))


def _read_factor(challenge: MfaChallenge) -> VerifyMfaRequest:
    if challenge.enrolment:
        raise CommandError("your role demands a second factor: add one in a browser first")
    if not {TOTP, RECOVERY_CODE}.intersection(challenge.factors):
        raise CommandError("your second factor is a passkey: sign in by a browser, or with a recovery code")
    question = "Code of your authenticator app, or a recovery code"
    code = typer.prompt(question, err=True) if sys.stdin.isatty() else sys.stdin.readline()
    code = code.strip()
    if len(code) == TOTP_DIGITS:
        return VerifyMfaRequest(challenge=challenge.challenge, totp_code=code)
    return VerifyMfaRequest(challenge=challenge.challenge, recovery_code=code)


async def user_id(mesh: Mesh, who: str) -> str:
    """The id of an account that is named by its address or its id."""
    if "@" not in who:
        return who
    found = (await mesh.users.ListUsers(ListUsersRequest(filter=f"email = {json.dumps(who)}"))).users
    if not found:
        raise CommandError(f"nobody has the address {who}")
    return found[0].id


def _lock(path: Path) -> IO[bytes]:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = path.open("wb")
    give_up = time.monotonic() + LOCK_SECONDS
    while time.monotonic() < give_up:
        with suppress(BlockingIOError, PermissionError):
            _take(file)
            return file
        time.sleep(0.02)
    file.close()
    raise CommandError(f"another thmnayah process holds {path} for too long")


if sys.platform == "win32":
    import msvcrt

    def _take(file: IO[bytes]) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _take(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
