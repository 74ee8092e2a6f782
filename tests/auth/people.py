"""People with second factors, and what they do."""

import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import asyncpg
import grpc
import jwt
import pyotp

from tests.auth.authenticator import Authenticator
from tests.conftest import AuthStub, Metadata, bearer
from thmnayah.auth.v1.auth_pb2 import GetMeRequest, LoginRequest, MfaChallenge, RefreshTokensRequest, Tokens, User
from thmnayah.auth.v1.auth_pb2_grpc import AuthServiceStub
from thmnayah.auth.v1.mfa_pb2 import (
    BeginMfaEnrolmentRequest,
    BeginPasskeyRegistrationRequest,
    ConfirmTotpRequest,
    EnrolTotpRequest,
    FinishPasskeyRegistrationRequest,
    GetMfaRequest,
    Mfa,
    MfaEnrolment,
    Passkey,
    VerifyMfaRequest,
)
from thmnayah.auth.v1.mfa_pb2_grpc import MfaServiceStub

if TYPE_CHECKING:
    from thmnayah.auth.v1.mfa_pb2_grpc import MfaServiceAsyncStub

    MfaStub = MfaServiceAsyncStub
    Database = asyncpg.Connection[asyncpg.Record]
else:
    MfaStub, Database = MfaServiceStub, asyncpg.Connection

SECONDS = 10


@dataclass
class Person:
    """Somebody, signed in or not."""

    channel: grpc.aio.Channel
    user: User
    password: str = field(repr=False)
    tokens: Tokens = field(default_factory=Tokens)
    seed: str = ""
    recovery_codes: list[str] = field(default_factory=list)

    @property
    def auth(self) -> AuthStub:
        return AuthServiceStub(self.channel)

    @property
    def mfa(self) -> MfaStub:
        return MfaServiceStub(self.channel)

    @property
    def metadata(self) -> Metadata:
        return bearer(self.tokens.access_token)

    async def login(self) -> Tokens:
        """By password; what comes back is kept when the sign-in is over with it."""
        tokens = await self.auth.Login(LoginRequest(email=self.user.email, password=self.password), timeout=SECONDS)
        if tokens.access_token:
            self.tokens = tokens
        return tokens

    async def challenge(self) -> MfaChallenge:
        """What a sign-in by password asks for next."""
        tokens = await self.login()
        assert not tokens.access_token
        assert not tokens.refresh_token
        return tokens.mfa

    async def verify(self, challenge: MfaChallenge, **factor: object) -> Tokens:
        request = VerifyMfaRequest(challenge=challenge.challenge, **factor)  # type: ignore[arg-type]  # one of three
        tokens = await self.mfa.VerifyMfa(request, timeout=SECONDS)
        if tokens.access_token:
            self.tokens = tokens
        return tokens

    async def begin_enrolment(self) -> str:
        answer = await self.mfa.BeginMfaEnrolment(BeginMfaEnrolmentRequest(), metadata=self.metadata, timeout=SECONDS)
        return answer.challenge

    async def add_totp(self, challenge: str = "") -> MfaEnrolment:
        challenge = challenge or await self.begin_enrolment()
        made = await self.mfa.EnrolTotp(EnrolTotpRequest(challenge=challenge), timeout=SECONDS)
        self.seed = made.secret
        return self._kept(
            await self.mfa.ConfirmTotp(ConfirmTotpRequest(challenge=challenge, code=self.code()), timeout=SECONDS)
        )

    async def add_passkey(
        self, authenticator: Authenticator, *, name: str = "phone", challenge: str = ""
    ) -> MfaEnrolment:
        challenge = challenge or await self.begin_enrolment()
        begun = await self.mfa.BeginPasskeyRegistration(
            BeginPasskeyRegistrationRequest(challenge=challenge), timeout=SECONDS
        )
        request = FinishPasskeyRegistrationRequest(
            challenge=challenge, name=name, passkey=authenticator.create(begun.options)
        )
        return self._kept(await self.mfa.FinishPasskeyRegistration(request, timeout=SECONDS))

    def code(self, steps: int = 0) -> str:
        """Of the app, so many steps from now."""
        return pyotp.TOTP(self.seed).generate_otp(int(time.time()) // 30 + steps)

    async def factors(self) -> Mfa:
        return await self.mfa.GetMfa(GetMfaRequest(), metadata=self.metadata, timeout=SECONDS)

    async def passkeys(self) -> list[Passkey]:
        return list((await self.factors()).passkeys)

    async def refresh(self, tokens: Tokens) -> Tokens:
        return await self.auth.RefreshTokens(RefreshTokensRequest(refresh_token=tokens.refresh_token), timeout=SECONDS)

    async def whoami(self) -> str:
        return (await self.auth.GetMe(GetMeRequest(), metadata=self.metadata, timeout=SECONDS)).id

    def _kept(self, enrolment: MfaEnrolment) -> MfaEnrolment:
        self.recovery_codes = list(enrolment.recovery_codes) or self.recovery_codes
        if enrolment.tokens.access_token:
            self.tokens = enrolment.tokens
        return enrolment


MakePerson = Callable[..., Awaitable[Person]]


def session_of(tokens: Tokens) -> str:
    return str(jwt.decode(tokens.access_token, options={"verify_signature": False})["sid"])


async def age(db: Database, person: Person, minutes: int = 6) -> None:
    """Let the person's session have begun some minutes ago."""
    await db.execute(
        "UPDATE sessions SET create_time = create_time - make_interval(mins => $2) WHERE id = $1",
        session_of(person.tokens),
        minutes,
    )


async def forget_codes(db: Database, person: Person) -> None:
    """Let no code of the person's app have been used, as after a minute."""
    await db.execute("UPDATE totp_factors SET last_step = 0 WHERE user_id = $1", person.user.id)


def other_code(code: str) -> str:
    """A wrong one."""
    return f"{(int(code) + 1 + secrets.randbelow(999_998)) % 1_000_000:06}"
