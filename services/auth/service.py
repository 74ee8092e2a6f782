"""AuthService: each RPC's transaction, its functions and its event."""

from dataclasses import dataclass

from google.protobuf.empty_pb2 import Empty

from libs import outbox, text
from libs.db import Connection, Pool, connection, transaction
from libs.errors import InvalidArgument, Unauthenticated
from libs.identity import caller
from libs.rpc import Context
from services.auth import audit, browsers, keys, mfa, password_rules, roles, sessions, throttle, users
from services.auth.challenges import Device
from services.auth.passkeys import RelyingParty
from services.auth.passwords import Passwords
from thmnayah.auth.v1 import auth_pb2, auth_pb2_grpc


@dataclass(frozen=True)
class SignedIn:
    """Whose tokens are to be told, and how."""

    user: auth_pb2.User
    issued: sessions.Issued
    roles_version: int
    browser: bool


class AuthService(auth_pb2_grpc.AuthServiceServicer):
    """The servicer of thmnayah.auth.v1.AuthService, where each RPC is described."""

    def __init__(
        self,
        db: Pool,
        ring: keys.Ring,
        passwords: Passwords,
        party: RelyingParty,
        devices: throttle.Devices,
        terms: sessions.Terms,
    ) -> None:
        self.db = db
        self.ring = ring
        self.passwords = passwords
        self.party = party
        self.devices = devices
        self.terms = terms

    async def Login(self, request: auth_pb2.LoginRequest, context: Context) -> auth_pb2.Tokens:
        if request.browser:
            browsers.check_origin()
        async with connection(self.db) as conn:
            found = await users.credentials(conn, request.email)
            user, stored = found or (auth_pb2.User(), None)
            kept = browsers.cookie(browsers.DEVICE_COOKIE) if request.browser else ""
            known = self.devices.device(user.id, request.device_token or kept)
            counter = throttle.key("device", known) if known else throttle.key("address", users.key(request.email))
            attempt = await throttle.admit(conn, counter)
        if not await self.passwords.verify(request.password, stored) or stored is None:
            async with transaction(self.db) as conn:  # the address that was typed may be a password: it is not kept
                await throttle.failed(conn, attempt)
                target = f"user/{user.id}" if user.id else ""
                await audit.record(conn, "session.started", outcome="FAILED", target=target)
            raise _credentials_invalid()
        rehashed = await self.passwords.hash(request.password) if self.passwords.outdated(stored) else None
        async with transaction(self.db) as conn:
            if rehashed is not None:
                await users.set_password_hash(conn, user.id, rehashed)
            await throttle.succeeded(conn, attempt)
            device = Device(text.nfc(request.device_name), browser=request.browser)
            outcome = await self.finish(conn, user, device, proven=False, password_hash=rehashed or stored)
        return await self.answer(outcome, context, known)

    async def RefreshTokens(self, request: auth_pb2.RefreshTokensRequest, context: Context) -> auth_pb2.Tokens:
        async with transaction(self.db) as conn:
            refresh_token = await self._refresh_token(conn, request.refresh_token)
            issued = await sessions.rotate(conn, refresh_token, self.terms)
            if issued is not None:
                user = await users.get(conn, issued.user_id)
                version = await roles.version_for(conn, users.all_roles(user))
        if issued is None:
            raise sessions.invalid()
        return await self._tokens(SignedIn(user, issued, version, browser=not request.refresh_token), context)

    async def Logout(self, request: auth_pb2.LogoutRequest, context: Context) -> Empty:
        async with transaction(self.db) as conn:
            session_id = await sessions.of_token(conn, await self._refresh_token(conn, request.refresh_token))
            if session_id:
                await sessions.end(conn, session_id)
                await audit.record(conn, "session.ended", target=f"session/{session_id}")
        if not request.refresh_token:
            await context.send_initial_metadata(browsers.no_cookies())
        return Empty()

    async def GetMe(self, request: auth_pb2.GetMeRequest, context: Context) -> auth_pb2.User:
        async with connection(self.db) as conn:
            return await users.get(conn, caller.get().user_id)

    async def CreateUser(self, request: auth_pb2.CreateUserRequest, context: Context) -> auth_pb2.User:
        async with connection(self.db) as conn:
            request.roles[:] = await roles.assignable(conn, request.roles, by=caller.get())
        password_rules.check(request.password, email=request.email, name=request.display_name)
        password_hash = await self.passwords.hash(request.password)
        async with transaction(self.db) as conn:
            user = await users.create(conn, request, password_hash=password_hash)
            await outbox.add(conn, auth_pb2.UserCreated(user=user), about=user.id)
            await audit.record(conn, "user.created", target=f"user/{user.id}", details={"roles": " ".join(user.roles)})
        return user

    async def GetJwks(self, request: auth_pb2.GetJwksRequest, context: Context) -> auth_pb2.JsonWebKeySet:
        async with connection(self.db) as conn:
            return await keys.key_set(conn)

    async def _refresh_token(self, conn: Connection, given: str) -> str:
        """The refresh token of a request, or that of the browser's cookie where a page of ours sent it."""
        if given:
            return given
        refresh_token = browsers.cookie(browsers.REFRESH_COOKIE)
        if not refresh_token:
            raise InvalidArgument({"refreshToken": "is needed where there is no cookie"})
        browsers.check_origin()
        browsers.check_csrf(self.terms, await sessions.of_token(conn, refresh_token))
        return refresh_token

    async def finish(
        self,
        conn: Connection,
        user: auth_pb2.User,
        device: Device,
        *,
        proven: bool,
        password_hash: str | None = None,
    ) -> SignedIn | auth_pb2.MfaChallenge:
        """Begin a session; or, where something is still to do before that, say what.

        Args:
            proven: a second factor has been proved in this sign-in.
            password_hash: that which a password was verified against; without one the factor was enough.

        Raises:
            Unauthenticated: the password was changed meanwhile, or the account is gone.
        """
        if not await users.hold(conn, user.id, password_hash):
            raise _credentials_invalid()
        user = await users.get(conn, user.id)  # not older than the epoch in its token
        challenge = await mfa.next_step(conn, user, self.party, device, proven=proven)
        if challenge is not None:
            return challenge
        issued = await sessions.start(
            conn, user.id, self.terms, device_name=device.name, user_agent=browsers.user_agent()
        )
        await audit.record(conn, "session.started", target=f"user/{user.id}", actor=user.id, session=issued.session_id)
        return SignedIn(user, issued, await roles.version_for(conn, users.all_roles(user)), device.browser)

    async def answer(
        self, outcome: SignedIn | auth_pb2.MfaChallenge, context: Context, known: bytes | None = None
    ) -> auth_pb2.Tokens:
        """The tokens of what a sign-in came to, once that is committed.

        Args:
            known: the device, where its owner has signed in on it before.
        """
        if isinstance(outcome, auth_pb2.MfaChallenge):
            return auth_pb2.Tokens(mfa=outcome)
        return await self._tokens(outcome, context, self.devices.token(outcome.user.id, known))

    async def _tokens(self, signed_in: SignedIn, context: Context, device_token: str = "") -> auth_pb2.Tokens:
        issued, seconds = signed_in.issued, int(self.terms.access.total_seconds())
        tokens = auth_pb2.Tokens(
            access_token=self.ring.signer.sign(
                signed_in.user,
                issued.session_id,
                epoch=issued.epoch,
                roles_version=signed_in.roles_version,
                life_seconds=seconds,
            ),
            expires_in=seconds,
            token_type="Bearer",  # noqa: S106 — the scheme of RFC 6750, no secret
        )
        if signed_in.browser:
            tokens.csrf_token = browsers.csrf_token(self.terms, issued.session_id)
            await context.send_initial_metadata(
                browsers.cookies(self.terms, issued.session_id, issued.refresh_token, device_token)
            )
        else:
            tokens.refresh_token, tokens.device_token = issued.refresh_token, device_token
        return tokens


def _credentials_invalid() -> Unauthenticated:
    return Unauthenticated(
        "CREDENTIALS_INVALID",
        "the e-mail address or the password is wrong",
        "البريد الإلكتروني أو كلمة المرور غير صحيحة",
    )
