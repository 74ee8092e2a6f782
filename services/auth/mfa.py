"""What a person's second factors are, what the person's roles demand, and what follows from both."""

from dataclasses import dataclass

from libs import outbox
from libs.db import Connection, fetch_one
from libs.errors import FailedPrecondition
from libs.identity import caller
from services.auth import challenges, passkeys, recovery_codes, sessions, users
from services.auth.challenges import Device
from services.auth.passkeys import RelyingParty
from thmnayah.auth.v1.auth_pb2 import PASSKEY, RECOVERY_CODE, TOTP, Factor, MfaChallenge, User
from thmnayah.auth.v1.mfa_pb2 import Mfa, MfaPolicy, MfaRule, UserMfaChanged

FRESH_MINUTES = 5


@dataclass(frozen=True)
class Standing:
    """The factors of a person beside what is demanded."""

    factors: frozenset[Factor.ValueType]
    """TOTP and PASSKEY, where there is one."""
    recovery_codes: int
    requirement: int

    @property
    def accepted(self) -> frozenset[Factor.ValueType]:
        """What may be added to do what is demanded."""
        return frozenset({PASSKEY} if self.requirement == MfaRule.PASSKEY_REQUIRED else {TOTP, PASSKEY})

    @property
    def satisfied(self) -> bool:
        """Whether the factors are what is demanded."""
        return self.requirement < MfaRule.REQUIRED or bool(self.factors & self.accepted)

    @property
    def asked(self) -> frozenset[Factor.ValueType]:
        """What proves the person at sign-in; nothing where there is no factor."""
        asked = self.factors & self.accepted or self.factors
        return asked | {RECOVERY_CODE} if asked and self.recovery_codes else asked


async def standing(conn: Connection, user: User) -> Standing:
    row = await fetch_one(
        conn,
        """
        SELECT EXISTS (SELECT FROM totp_factors WHERE user_id = $1) AS totp,
               EXISTS (SELECT FROM passkeys WHERE user_id = $1) AS passkey,
               (SELECT count(*) FROM recovery_codes WHERE user_id = $1) AS recovery_codes,
               (SELECT coalesce(max(requirement), 0) FROM mfa_rules WHERE role = ANY($2)) AS requirement
        """,
        user.id,
        users.all_roles(user),
    )
    factors = frozenset(factor for factor, there in ((TOTP, row["totp"]), (PASSKEY, row["passkey"])) if there)
    return Standing(factors, row["recovery_codes"], row["requirement"])


async def next_step(
    conn: Connection, user: User, party: RelyingParty, device: Device, *, proven: bool
) -> MfaChallenge | None:
    """What still stands between a person, whose row is locked, and a session; None for nothing.

    Args:
        device: what the session is to be begun on.
        proven: a second factor has been proved in this sign-in.
    """
    stands = await standing(conn, user)
    if stands.asked and not proven:
        challenge, nonce = await challenges.begin(conn, challenges.SIGN_IN, device, user_id=user.id)
        challenge.factors.extend(sorted(stands.asked))
        if PASSKEY in stands.asked:
            challenge.passkey_options.CopyFrom(await passkeys.request_options(conn, party, user.id, nonce))
        return challenge
    if stands.satisfied:
        return None
    return await enrolment(conn, stands, user.id, device)


async def enrolment(
    conn: Connection, stands: Standing, user_id: str, device: Device, *, session_id: str = ""
) -> MfaChallenge:
    """A challenge to add a factor with.

    Args:
        device: what a session that follows is to be begun on.
        session_id: the person's, where there is one already.
    """
    challenge, _ = await challenges.begin(conn, challenges.ENROLMENT, device, user_id=user_id, session_id=session_id)
    challenge.enrolment = True
    challenge.factors.extend(sorted(stands.accepted))
    return challenge


async def lock(conn: Connection, user_id: str) -> None:
    """Let nobody else change this person's factors until the transaction ends.

    Raises:
        NotFound: there is no such account.
    """
    if not await conn.fetchval("SELECT true FROM users WHERE id = $1 FOR NO KEY UPDATE", user_id):
        raise users.not_found(user_id)


async def require_fresh_sign_in(conn: Connection) -> None:
    """The caller signed in within the last FRESH_MINUTES, by a second factor if there was one.

    Raises:
        FailedPrecondition: longer ago, or the session has ended.
    """
    fresh = await conn.fetchval(
        """
        SELECT create_time > now() - make_interval(mins => $3) AND end_time IS NULL
        FROM sessions WHERE id = $1 AND user_id = $2
        """,
        caller.get().session_id,
        caller.get().user_id,
        FRESH_MINUTES,
    )
    if not fresh:
        raise FailedPrecondition(
            "FRESH_SIGN_IN_NEEDED",
            f"sign in again: this is possible for {FRESH_MINUTES} minutes after a sign-in",
            f"سجّل الدخول من جديد: هذا ممكن خلال {FRESH_MINUTES} دقائق من تسجيل الدخول",
        )


async def removed(conn: Connection, user: User) -> None:
    """What follows when the caller has removed a factor.

    Raises:
        FailedPrecondition: what is left is not what the person's roles demand.
    """
    stands = await standing(conn, user)
    if not stands.satisfied:
        raise FailedPrecondition(
            "MFA_REQUIRED",
            "your role demands this factor; add another one first",
            "دورك يتطلب هذا العامل؛ أضف عاملًا آخر أولًا",
        )
    if not stands.factors:
        await recovery_codes.remove(conn, user.id)
    await changed(conn, user.id, keep=caller.get().session_id)


async def changed(conn: Connection, user_id: str, *, keep: str = "", by_administrator: bool = False) -> None:
    """What follows when a person's factors have changed: other sessions end, and it is announced.

    Args:
        keep: the session that goes on.
    """
    await sessions.end_all(conn, user_id, but=keep or None)
    await announce(conn, user_id, by_administrator=by_administrator)


async def announce(conn: Connection, user_id: str, *, by_administrator: bool = False) -> None:
    """Say what a person's factors are now."""
    event = UserMfaChanged(user_id=user_id, mfa=await get(conn, user_id), by_administrator=by_administrator)
    await outbox.add(conn, event, about=user_id)


async def get(conn: Connection, user_id: str) -> Mfa:
    """A person's factors."""
    row = await fetch_one(
        conn,
        """
        SELECT (SELECT create_time FROM totp_factors WHERE user_id = $1) AS totp_time,
               (SELECT count(*) FROM recovery_codes WHERE user_id = $1) AS recovery_codes
        """,
        user_id,
    )
    mfa = Mfa(passkeys=await passkeys.of(conn, user_id), recovery_codes_left=row["recovery_codes"])
    if row["totp_time"] is not None:
        mfa.totp_time.FromDatetime(row["totp_time"])
    return mfa


async def reset(conn: Connection, user_id: str) -> None:
    """Remove all factors of a person and end all sessions."""
    for table in ("totp_factors", "passkeys", "recovery_codes"):
        await conn.execute(f"DELETE FROM {table} WHERE user_id = $1", user_id)
    await changed(conn, user_id, by_administrator=True)


async def policy(conn: Connection) -> MfaPolicy:
    """What each role demands."""
    rows = await conn.fetch("SELECT role, requirement FROM mfa_rules ORDER BY role")
    return MfaPolicy(rules=[MfaRule(role=row["role"], requirement=row["requirement"]) for row in rows])


async def set_rule(conn: Connection, rule: MfaRule) -> None:
    """Store what a role demands, and end the sessions of those who have less."""
    await conn.execute(
        """
        INSERT INTO mfa_rules (role, requirement) VALUES ($1, $2)
        ON CONFLICT (role) DO UPDATE SET requirement = excluded.requirement
        """,
        rule.role,
        rule.requirement,
    )
    if rule.requirement >= MfaRule.REQUIRED:
        rows = await conn.fetch(
            """
            SELECT id FROM users u
            WHERE $1 = ANY(u.roles || u.group_roles)
              AND NOT EXISTS (SELECT FROM passkeys p WHERE p.user_id = u.id)
              AND ($2 OR NOT EXISTS (SELECT FROM totp_factors t WHERE t.user_id = u.id))
            """,
            rule.role,
            rule.requirement == MfaRule.PASSKEY_REQUIRED,
        )
        await sessions.end_of(conn, [row["id"] for row in rows])
