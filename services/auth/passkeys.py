"""Passkeys: WebAuthn credentials of people, checked by py_webauthn."""

import uuid
from dataclasses import dataclass
from typing import Any

import structlog
import uuid_utils
import webauthn
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Struct
from webauthn import helpers
from webauthn.helpers import structs

from libs import outbox, text
from libs.db import Connection, Record
from libs.errors import AlreadyExists, FailedPrecondition, NotFound
from services.auth.challenges import MINUTES
from thmnayah.auth.v1.auth_pb2 import User
from thmnayah.auth.v1.mfa_pb2 import Passkey, UserPasskeySuspect

MOST = 20
_TIMEOUT_MS = MINUTES * 60_000
_COLUMNS = "id, name, create_time, use_time"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class RelyingParty:
    """Who passkeys are made for."""

    id: str
    """A domain; a passkey is good on it and below it."""
    origins: tuple[str, ...]
    """The pages that may ask for one, such as https://studio.example.com."""


async def creation_options(conn: Connection, party: RelyingParty, user: User, nonce: bytes) -> Struct:
    """What a browser makes a new passkey of; not on a device that holds one of the person's already."""
    options = webauthn.generate_registration_options(
        rp_id=party.id,
        rp_name="Thmnayah",
        user_name=user.email,
        user_display_name=user.display_name or user.email,
        user_id=uuid.UUID(user.id).bytes,
        challenge=nonce,
        timeout=_TIMEOUT_MS,
        authenticator_selection=structs.AuthenticatorSelectionCriteria(
            resident_key=structs.ResidentKeyRequirement.PREFERRED,
            user_verification=structs.UserVerificationRequirement.PREFERRED,
        ),
        exclude_credentials=await _credentials(conn, user.id),
    )
    return _struct(options)


async def request_options(conn: Connection, party: RelyingParty, user_id: str, nonce: bytes) -> Struct:
    """What a browser proves a passkey by: one of the person's, or with "" anyone's, who is verified."""
    verification = structs.UserVerificationRequirement
    options = webauthn.generate_authentication_options(
        rp_id=party.id,
        challenge=nonce,
        timeout=_TIMEOUT_MS,
        allow_credentials=await _credentials(conn, user_id) if user_id else None,
        user_verification=verification.PREFERRED if user_id else verification.REQUIRED,
    )
    return _struct(options)


async def add(
    conn: Connection, party: RelyingParty, user_id: str, credential: Struct, nonce: bytes, *, name: str
) -> Passkey | None:
    """Keep a new passkey; None when the browser's answer is not one to these options.

    Args:
        conn: with the person's row locked, so that nobody gets one too many.

    Raises:
        AlreadyExists, FailedPrecondition: it is there, or there are MOST.
    """
    try:
        parsed = helpers.parse_registration_credential_json(MessageToDict(credential))
        _refuse_frames(parsed.response.client_data_json)
        made = webauthn.verify_registration_response(
            credential=parsed,
            expected_challenge=nonce,
            expected_rp_id=party.id,
            expected_origin=list(party.origins),
        )
        helpers.decoded_public_key_to_cryptography(helpers.decode_credential_public_key(made.credential_public_key))
    except Exception as error:  # noqa: BLE001 — strangers' bytes: whatever a parser makes of them, they are no passkey
        _log.info("passkey_refused", error=type(error).__name__)
        return None
    if await conn.fetchval("SELECT count(*) FROM passkeys WHERE user_id = $1", user_id) >= MOST:
        raise FailedPrecondition(
            "PASSKEYS_MAX", f"there are {MOST} passkeys; delete one first", f"يوجد {MOST} مفتاح مرور؛ احذف واحدًا أولًا"
        )
    row = await conn.fetchrow(
        f"""
        INSERT INTO passkeys (id, user_id, credential_id, public_key, sign_count, name)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (credential_id) DO NOTHING
        RETURNING {_COLUMNS}
        """,
        str(uuid_utils.uuid7()),
        user_id,
        made.credential_id,
        made.credential_public_key,
        made.sign_count,
        text.nfc(name),
    )
    if row is None:
        raise AlreadyExists("PASSKEY_EXISTS", "this passkey is there already", "مفتاح المرور هذا موجود بالفعل")
    return _passkey(row)


async def use(conn: Connection, party: RelyingParty, credential: Struct, nonce: bytes, *, user_id: str) -> str:
    """Whose passkey has signed the nonce; "" when none has. Commit also then.

    Args:
        user_id: whose it must be; with "" anyone's, and it must have verified its user.
    """
    try:
        parsed = helpers.parse_authentication_credential_json(MessageToDict(credential))
        _refuse_frames(parsed.response.client_data_json)
        row = await conn.fetchrow(
            "SELECT id, user_id, public_key FROM passkeys WHERE credential_id = $1", parsed.raw_id
        )
        if row is None or user_id not in ("", str(row["user_id"])):
            return ""
        # Who is named must be whose it is; who comes without a name must be named.
        if parsed.response.user_handle != row["user_id"].bytes and (parsed.response.user_handle or not user_id):
            return ""
        signed = webauthn.verify_authentication_response(
            credential=parsed,
            expected_challenge=nonce,
            expected_rp_id=party.id,
            expected_origin=list(party.origins),
            credential_public_key=row["public_key"],
            credential_current_sign_count=0,  # compared below, where two at once wait for each other
            require_user_verification=not user_id,
        )
    except Exception as error:  # noqa: BLE001 — as in `add`
        _log.info("passkey_refused", error=type(error).__name__)
        return ""
    used = await conn.fetchval(
        """
        UPDATE passkeys SET sign_count = $2, use_time = now()
        WHERE id = $1 AND (sign_count < $2 OR (sign_count = 0 AND $2 = 0))
        RETURNING true
        """,
        row["id"],
        signed.new_sign_count,
    )
    if not used:
        owner = str(row["user_id"])
        [suspect] = [each for each in await of(conn, owner) if each.id == str(row["id"])]
        await outbox.add(conn, UserPasskeySuspect(user_id=owner, passkey=suspect), about=owner)
        _log.warning("passkey_suspect", passkey_id=suspect.id, user_id=owner)
        return ""
    return str(row["user_id"])


async def of(conn: Connection, user_id: str) -> list[Passkey]:
    """A person's passkeys, the oldest first."""
    rows = await conn.fetch(f"SELECT {_COLUMNS} FROM passkeys WHERE user_id = $1 ORDER BY id", user_id)
    return [_passkey(row) for row in rows]


async def rename(conn: Connection, user_id: str, passkey_id: str, name: str) -> Passkey:
    """Raises: NotFound when the person has no such passkey."""
    row = await conn.fetchrow(
        f"UPDATE passkeys SET name = $3 WHERE id = $1 AND user_id = $2 RETURNING {_COLUMNS}",
        passkey_id,
        user_id,
        text.nfc(name),
    )
    if row is None:
        raise _not_found(passkey_id)
    return _passkey(row)


async def remove(conn: Connection, user_id: str, passkey_id: str) -> None:
    """Raises: NotFound when the person has no such passkey."""
    statement = "DELETE FROM passkeys WHERE id = $1 AND user_id = $2 RETURNING true"
    if not await conn.fetchval(statement, passkey_id, user_id):
        raise _not_found(passkey_id)


async def _credentials(conn: Connection, user_id: str) -> list[structs.PublicKeyCredentialDescriptor]:
    rows = await conn.fetch("SELECT credential_id FROM passkeys WHERE user_id = $1 ORDER BY id", user_id)
    return [structs.PublicKeyCredentialDescriptor(id=row["credential_id"]) for row in rows]


def _refuse_frames(client_data: bytes) -> None:
    """py_webauthn reads this flag and leaves what it means to us."""
    if helpers.parse_client_data_json(client_data).cross_origin:
        raise ValueError("a page of ours in a frame of another's")


def _struct(options: Any) -> Struct:
    return ParseDict(helpers.options_to_json_dict(options), Struct())


def _not_found(passkey_id: str) -> NotFound:
    return NotFound("PASSKEY_NOT_FOUND", f"no passkey {passkey_id}", f"لا يوجد مفتاح مرور {passkey_id}")


def _passkey(row: Record) -> Passkey:
    passkey = Passkey(id=str(row["id"]), name=row["name"])
    passkey.create_time.FromDatetime(row["create_time"])
    if row["use_time"] is not None:
        passkey.use_time.FromDatetime(row["use_time"])
    return passkey
