"""MfaService: each RPC's transaction, its functions and its event."""

import pyotp
from google.protobuf.empty_pb2 import Empty

from libs import text
from libs.db import Connection, Pool, connection, transaction
from libs.errors import FailedPrecondition, Unauthenticated
from libs.identity import caller
from libs.rpc import Context
from services.auth import audit, browsers, challenges, mfa, passkeys, recovery_codes, totp, users
from services.auth.challenges import Challenge, Device
from services.auth.service import AuthService, SignedIn
from thmnayah.auth.v1 import auth_pb2, mfa_pb2, mfa_pb2_grpc


class MfaService(mfa_pb2_grpc.MfaServiceServicer):
    """The servicer of thmnayah.auth.v1.MfaService, where each RPC is described."""

    def __init__(self, db: Pool, auth: AuthService) -> None:
        self.db = db
        self.auth = auth
        self.party = auth.party
        self.secret_key = auth.terms.secret_key

    async def VerifyMfa(self, request: mfa_pb2.VerifyMfaRequest, context: Context) -> auth_pb2.Tokens:
        outcome = None
        async with transaction(self.db) as conn:
            challenge = await challenges.take(conn, request.challenge, challenges.SIGN_IN)
            user = await users.get(conn, challenge.user_id)
            if await self._proves(conn, user, request, challenge):
                await challenges.end(conn, challenge)
                outcome = await self.auth.finish(conn, user, challenge.device, proven=True)
            else:
                await _record_failure(conn, user.id)
        if outcome is None:
            raise _failed()
        return await self.auth.answer(outcome, context)

    async def BeginPasskeyLogin(
        self, request: mfa_pb2.BeginPasskeyLoginRequest, context: Context
    ) -> auth_pb2.MfaChallenge:
        if request.browser:
            browsers.check_origin()
        device = Device(text.nfc(request.device_name), browser=request.browser)
        async with transaction(self.db) as conn:
            challenge, nonce = await challenges.begin(conn, challenges.PASSKEY_LOGIN, device)
            challenge.factors.append(auth_pb2.PASSKEY)
            challenge.passkey_options.CopyFrom(await passkeys.request_options(conn, self.party, "", nonce))
        return challenge

    async def FinishPasskeyLogin(self, request: mfa_pb2.FinishPasskeyLoginRequest, context: Context) -> auth_pb2.Tokens:
        outcome = None
        async with transaction(self.db) as conn:
            challenge = await challenges.take(conn, request.challenge, challenges.PASSKEY_LOGIN)
            user_id = await passkeys.use(conn, self.party, request.passkey, challenge.nonce, user_id="")
            if user_id:
                await challenges.end(conn, challenge)
                user = await users.get(conn, user_id)
                outcome = await self.auth.finish(conn, user, challenge.device, proven=True)
            else:
                await _record_failure(conn, "")
        if outcome is None:
            raise _failed()
        return await self.auth.answer(outcome, context)

    async def BeginMfaEnrolment(
        self, request: mfa_pb2.BeginMfaEnrolmentRequest, context: Context
    ) -> auth_pb2.MfaChallenge:
        me = caller.get()
        async with transaction(self.db) as conn:
            await mfa.require_fresh_sign_in(conn)
            stands = await mfa.standing(conn, await users.get(conn, me.user_id))
            return await mfa.enrolment(conn, stands, me.user_id, Device(), session_id=me.session_id)

    async def EnrolTotp(self, request: mfa_pb2.EnrolTotpRequest, context: Context) -> mfa_pb2.TotpEnrolment:
        seed = pyotp.random_base32()
        async with transaction(self.db) as conn:
            challenge = await challenges.take(conn, request.challenge, challenges.ENROLMENT, tries=0)
            user = await users.get(conn, challenge.user_id)
            await challenges.keep_seed(conn, challenge, totp.seal(seed, self.secret_key, user.id))
        return mfa_pb2.TotpEnrolment(secret=seed, uri=totp.uri(seed, user.email))

    async def ConfirmTotp(self, request: mfa_pb2.ConfirmTotpRequest, context: Context) -> mfa_pb2.MfaEnrolment:
        enrolment, outcome = None, None
        async with transaction(self.db) as conn:
            challenge = await challenges.take(conn, request.challenge, challenges.ENROLMENT)
            await mfa.lock(conn, challenge.user_id)
            seed = challenge.seed
            if seed and await totp.add(conn, challenge.user_id, seed, request.code, self.secret_key):
                enrolment, outcome = await self._enrolled(conn, challenge)
            else:
                await _record_failure(conn, challenge.user_id)
        if enrolment is None:
            raise _failed()
        if outcome is not None:
            enrolment.tokens.CopyFrom(await self.auth.answer(outcome, context))
        return enrolment

    async def BeginPasskeyRegistration(
        self, request: mfa_pb2.BeginPasskeyRegistrationRequest, context: Context
    ) -> mfa_pb2.PasskeyRegistration:
        async with transaction(self.db) as conn:
            challenge = await challenges.take(conn, request.challenge, challenges.ENROLMENT, tries=0)
            user = await users.get(conn, challenge.user_id)
            options = await passkeys.creation_options(conn, self.party, user, challenge.nonce)
        return mfa_pb2.PasskeyRegistration(options=options)

    async def FinishPasskeyRegistration(
        self, request: mfa_pb2.FinishPasskeyRegistrationRequest, context: Context
    ) -> mfa_pb2.MfaEnrolment:
        enrolment, outcome = None, None
        async with transaction(self.db) as conn:
            challenge = await challenges.take(conn, request.challenge, challenges.ENROLMENT)
            await mfa.lock(conn, challenge.user_id)
            passkey = await passkeys.add(
                conn, self.party, challenge.user_id, request.passkey, challenge.nonce, name=request.name
            )
            if passkey is not None:
                enrolment, outcome = await self._enrolled(conn, challenge)
                enrolment.passkey.CopyFrom(passkey)
            else:
                await _record_failure(conn, challenge.user_id)
        if enrolment is None:
            raise _failed()
        if outcome is not None:
            enrolment.tokens.CopyFrom(await self.auth.answer(outcome, context))
        return enrolment

    async def GetMfa(self, request: mfa_pb2.GetMfaRequest, context: Context) -> mfa_pb2.Mfa:
        async with connection(self.db) as conn:
            return await mfa.get(conn, caller.get().user_id)

    async def RenamePasskey(self, request: mfa_pb2.RenamePasskeyRequest, context: Context) -> mfa_pb2.Passkey:
        async with transaction(self.db) as conn:
            return await passkeys.rename(conn, caller.get().user_id, request.id, request.name)

    async def DeletePasskey(self, request: mfa_pb2.DeletePasskeyRequest, context: Context) -> Empty:
        user_id = caller.get().user_id
        async with transaction(self.db) as conn:
            await mfa.require_fresh_sign_in(conn)
            await mfa.lock(conn, user_id)
            await passkeys.remove(conn, user_id, request.id)
            await mfa.removed(conn, await users.get(conn, user_id))
            await audit.record(conn, "mfa.factor_removed", target=f"user/{user_id}", details={"passkey": request.id})
        return Empty()

    async def DisableTotp(self, request: mfa_pb2.DisableTotpRequest, context: Context) -> Empty:
        user_id = caller.get().user_id
        async with transaction(self.db) as conn:
            await mfa.require_fresh_sign_in(conn)
            await mfa.lock(conn, user_id)
            if await totp.remove(conn, user_id):
                await mfa.removed(conn, await users.get(conn, user_id))
                await audit.record(conn, "mfa.factor_removed", target=f"user/{user_id}")
        return Empty()

    async def RegenerateRecoveryCodes(
        self, request: mfa_pb2.RegenerateRecoveryCodesRequest, context: Context
    ) -> mfa_pb2.RecoveryCodes:
        me = caller.get()
        async with transaction(self.db) as conn:
            await mfa.require_fresh_sign_in(conn)
            await mfa.lock(conn, me.user_id)
            if not (await mfa.standing(conn, await users.get(conn, me.user_id))).factors:
                raise FailedPrecondition("MFA_MISSING", "add a second factor first", "أضف عاملًا ثانيًا أولًا")
            codes = await recovery_codes.renew(conn, me.user_id)
            await mfa.changed(conn, me.user_id, keep=me.session_id)
            await audit.record(conn, "mfa.recovery_codes_renewed", target=f"user/{me.user_id}")
        return mfa_pb2.RecoveryCodes(codes=codes)

    async def GetMfaPolicy(self, request: mfa_pb2.GetMfaPolicyRequest, context: Context) -> mfa_pb2.MfaPolicy:
        async with connection(self.db) as conn:
            return await mfa.policy(conn)

    async def UpdateMfaRule(self, request: mfa_pb2.UpdateMfaRuleRequest, context: Context) -> mfa_pb2.MfaRule:
        async with transaction(self.db) as conn:
            await mfa.set_rule(conn, request.rule)
            await audit.record(conn, "mfa.policy_changed", target=f"role/{request.rule.role}")
        return request.rule

    async def ResetUserMfa(self, request: mfa_pb2.ResetUserMfaRequest, context: Context) -> Empty:
        async with transaction(self.db) as conn:
            await mfa.lock(conn, request.id)
            await mfa.reset(conn, request.id)
            await audit.record(conn, "mfa.reset", target=f"user/{request.id}")
        return Empty()

    async def _proves(
        self, conn: Connection, user: auth_pb2.User, request: mfa_pb2.VerifyMfaRequest, challenge: Challenge
    ) -> bool:
        asked = (await mfa.standing(conn, user)).asked
        match request.WhichOneof("factor"):
            case "totp_code":
                return auth_pb2.TOTP in asked and await totp.use(conn, user.id, request.totp_code, self.secret_key)
            case "recovery_code":
                used = await recovery_codes.use(conn, user.id, request.recovery_code)
                if used:
                    await mfa.announce(conn, user.id)
                return used
            case _:
                nonce = challenge.nonce
                return bool(await passkeys.use(conn, self.party, request.passkey, nonce, user_id=user.id))

    async def _enrolled(
        self, conn: Connection, challenge: Challenge
    ) -> tuple[mfa_pb2.MfaEnrolment, SignedIn | auth_pb2.MfaChallenge | None]:
        """What follows when a factor was added, and what the sign-in came to that the challenge is of, if it is."""
        user = await users.get(conn, challenge.user_id)
        enrolment = mfa_pb2.MfaEnrolment()
        if not (await mfa.standing(conn, user)).recovery_codes:
            enrolment.recovery_codes.extend(await recovery_codes.renew(conn, user.id))
        await mfa.changed(conn, user.id, keep=challenge.session_id)
        await audit.record(conn, "mfa.factor_added", target=f"user/{user.id}", actor=user.id)
        outcome = None
        if not challenge.session_id:
            outcome = await self.auth.finish(conn, user, challenge.device, proven=True)
        return enrolment, outcome


async def _record_failure(conn: Connection, user_id: str) -> None:
    await audit.record(conn, "mfa.proved", outcome="FAILED", target=user_id and f"user/{user_id}")


def _failed() -> Unauthenticated:
    return Unauthenticated("MFA_FAILED", "the second factor is not right", "العامل الثاني غير صحيح")
