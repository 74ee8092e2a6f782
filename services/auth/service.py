"""AuthService: each RPC's transaction, its functions and its event."""

from datetime import timedelta

from google.protobuf.empty_pb2 import Empty

from libs import outbox
from libs.db import Pool, connection, transaction
from libs.errors import Unauthenticated
from libs.identity import caller
from libs.rpc import Context
from services.auth import keys, password_rules, sessions, throttle, users
from services.auth.passwords import Passwords
from thmnayah.auth.v1 import auth_pb2, auth_pb2_grpc


class AuthService(auth_pb2_grpc.AuthServiceServicer):
    """The servicer of thmnayah.auth.v1.AuthService, where each RPC is described."""

    def __init__(
        self,
        db: Pool,
        signer: keys.Signer,
        passwords: Passwords,
        devices: throttle.Devices,
        *,
        access_life: timedelta,
        refresh_life: timedelta,
    ) -> None:
        self.db = db
        self.signer = signer
        self.passwords = passwords
        self.devices = devices
        self.access_life = access_life
        self.refresh_life = refresh_life

    async def Login(self, request: auth_pb2.LoginRequest, context: Context) -> auth_pb2.Tokens:
        async with connection(self.db) as conn:
            found = await users.credentials(conn, request.email)
            user, stored = found or (auth_pb2.User(), None)
            device = self.devices.device(user.id, request.device_token)
            counter = throttle.key("device", device) if device else throttle.key("address", users.key(request.email))
            attempt = await throttle.admit(conn, counter)
        if not await self.passwords.verify(request.password, stored) or stored is None:
            async with connection(self.db) as conn:
                await throttle.failed(conn, attempt)
            raise Unauthenticated(
                "CREDENTIALS_INVALID",
                "the e-mail address or the password is wrong",
                "البريد الإلكتروني أو كلمة المرور غير صحيحة",
            )
        rehashed = await self.passwords.hash(request.password) if self.passwords.outdated(stored) else None
        async with transaction(self.db) as conn:
            if rehashed is not None:
                await users.set_password_hash(conn, user.id, rehashed)
            await throttle.succeeded(conn, attempt)
            session_id, refresh_token = await sessions.start(conn, user.id, life=self.refresh_life)
        tokens = self._tokens(user, session_id, refresh_token)
        tokens.device_token = self.devices.token(user.id, device)
        return tokens

    async def RefreshTokens(self, request: auth_pb2.RefreshTokensRequest, context: Context) -> auth_pb2.Tokens:
        async with transaction(self.db) as conn:
            rotated = await sessions.rotate(conn, request.refresh_token, life=self.refresh_life)
            if rotated is not None:
                session_id, user_id, refresh_token = rotated
                user = await users.get(conn, user_id)
        if rotated is None:
            raise sessions.invalid()
        return self._tokens(user, session_id, refresh_token)

    async def Logout(self, request: auth_pb2.LogoutRequest, context: Context) -> Empty:
        async with transaction(self.db) as conn:
            await sessions.end(conn, request.refresh_token)
        return Empty()

    async def GetMe(self, request: auth_pb2.GetMeRequest, context: Context) -> auth_pb2.User:
        async with connection(self.db) as conn:
            return await users.get(conn, caller.get().user_id)

    async def CreateUser(self, request: auth_pb2.CreateUserRequest, context: Context) -> auth_pb2.User:
        users.check_roles(request.roles)
        password_rules.check(request.password, email=request.email, name=request.display_name)
        password_hash = await self.passwords.hash(request.password)
        async with transaction(self.db) as conn:
            user = await users.create(conn, request, password_hash=password_hash)
            await outbox.add(conn, auth_pb2.UserCreated(user=user), about=user.id)
        return user

    async def GetJwks(self, request: auth_pb2.GetJwksRequest, context: Context) -> auth_pb2.JsonWebKeySet:
        async with connection(self.db) as conn:
            return await keys.key_set(conn)

    def _tokens(self, user: auth_pb2.User, session_id: str, refresh_token: str) -> auth_pb2.Tokens:
        seconds = int(self.access_life.total_seconds())
        return auth_pb2.Tokens(
            access_token=self.signer.sign(user, session_id, life_seconds=seconds),
            refresh_token=refresh_token,
            expires_in=seconds,
            token_type="Bearer",  # noqa: S106 — the scheme of RFC 6750, no secret
        )
