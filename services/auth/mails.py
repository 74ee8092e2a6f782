"""Mails: asked for in the transaction of a change, written and sent after it.

A row says to whom and what about, and no more: who is behind the address is looked up, and a code made,
when the mail is sent. So asking costs the same whether anybody is there, and no code lies in a table.
"""

import asyncio
import os
import time
import uuid
from collections.abc import Awaitable, Callable
from email.message import EmailMessage
from pathlib import Path
from urllib.parse import unquote, urlsplit

import aiosmtplib
import structlog
from prometheus_client import Counter

from libs import text
from libs.db import Connection, Pool, Record, connection, transaction
from libs.errors import Unavailable
from services.auth import email_changes, mail_texts, password_codes, users
from thmnayah.auth.v1.auth_pb2 import User

BATCH = 10
POLL_SECONDS = 0.5
SEND_SECONDS = 20.0
ATTEMPTS = 8  # over two hours
KINDS = ("PASSWORD", "REGISTRATION", "PASSWORD_CHANGED", "EMAIL_CHANGE", "EMAIL_CHANGED")

# What is mailed, by what was asked for and the state of the account that the address has.
_WHAT = {
    **{(kind, state): state for kind in ("PASSWORD", "REGISTRATION") for state in ("INVITED", "UNVERIFIED")},
    ("PASSWORD", "ACTIVE"): "RESET",
    ("REGISTRATION", "ACTIVE"): "EXISTS",
    ("PASSWORD_CHANGED", "ACTIVE"): "PASSWORD_CHANGED",
    # An address that somebody registered and did not prove is whose who proves it.
    ("EMAIL_CHANGE", ""): "EMAIL_CHANGE",
    ("EMAIL_CHANGE", "UNVERIFIED"): "EMAIL_CHANGE",
    ("EMAIL_CHANGE", "ACTIVE"): "EMAIL_TAKEN",
    # Whoever has the address now.
    **{("EMAIL_CHANGED", state): "EMAIL_CHANGED" for state in ("", *User.State.keys())},
}
# Mails to an address, whoever has it.
_TO_ADDRESS = ("EMAIL_CHANGE", "EMAIL_CHANGED")

_mails = Counter("mails_total", "Mails, by how an attempt to send one ended", ["outcome"])
_log = structlog.get_logger(__name__)

Send = Callable[[EmailMessage], Awaitable[None]]


async def add(conn: Connection, kind: str, email: str, *, locale: str = "") -> None:
    """Ask for a mail; a second one of a kind within a minute is not sent.

    Args:
        kind: one of KINDS.
        email: an address; nothing is sent when nobody has it, but for EMAIL_CHANGE and EMAIL_CHANGED.
        locale: for these two, that of the person who is to get the address or had it.
    """
    await conn.execute(
        """
        INSERT INTO mails (email_key, kind, address, locale) VALUES ($1, $2, $3, $4)
        ON CONFLICT (email_key, kind) DO UPDATE
        SET due_time = now(), attempts = 0, done_time = NULL, address = excluded.address, locale = excluded.locale
        WHERE mails.done_time < now() - interval '1 minute'
        """,
        users.key(email),
        kind,
        text.nfc(email) if kind in _TO_ADDRESS else "",
        locale,
    )


async def relay(pool: Pool, send: Send, *, sender: str, studio_url: str) -> None:
    """Send mails for ever; see `mail_texts.compose` for the arguments."""
    while True:
        sent = 0
        try:
            sent = await send_batch(pool, send, sender=sender, studio_url=studio_url)
        except Unavailable:
            _log.warning("mails_wait")
        if sent < BATCH:
            await asyncio.sleep(POLL_SECONDS)


async def send_batch(pool: Pool, send: Send, *, sender: str, studio_url: str) -> int:
    """Send the mails that are due, at most BATCH; returns how many were."""
    async with connection(pool) as conn:
        # Taken by a time at which another may try again, so that nobody waits for a mail server in a transaction.
        rows = await conn.fetch(
            """
            UPDATE mails SET attempts = attempts + 1, due_time = now() + interval '30 seconds' * 2 ^ attempts
            WHERE (email_key, kind) IN (
                SELECT email_key, kind FROM mails WHERE done_time IS NULL AND due_time <= now()
                ORDER BY due_time LIMIT $1 FOR UPDATE SKIP LOCKED
            )
            RETURNING email_key, kind, address, locale, attempts
            """,
            BATCH,
        )
    for row in rows:
        async with transaction(pool) as conn:
            message = await _compose(conn, row, sender=sender, studio_url=studio_url)
        outcome = "nobody" if message is None else await _try(send, message, kind=row["kind"])
        if outcome == "failed" and row["attempts"] >= ATTEMPTS:
            _log.error("mail_given_up", kind=row["kind"])
            outcome = "given_up"
        _mails.labels(outcome).inc()
        if outcome != "failed":
            async with connection(pool) as conn:
                await conn.execute(
                    "UPDATE mails SET done_time = now() WHERE email_key = $1 AND kind = $2",
                    row["email_key"],
                    row["kind"],
                )
    return len(rows)


async def forget_done(conn: Connection) -> None:
    """Delete what is sent."""
    await conn.execute("DELETE FROM mails WHERE done_time < now() - interval '10 minutes'")


async def _compose(conn: Connection, mail: Record, *, sender: str, studio_url: str) -> EmailMessage | None:
    """The mail with a new code; None when it is for nobody."""
    user = await conn.fetchrow(
        "SELECT id, email, display_name, locale, state FROM users WHERE email_key = $1", mail["email_key"]
    )
    what = _WHAT.get((mail["kind"], user["state"] if user else ""))
    if what is None:
        return None
    code = ""
    if user is None or what in _TO_ADDRESS:
        # Without a name: whoever reads that address need not be whom somebody says.
        to, name, locale = mail["address"], "", mail["locale"]
        if what == "EMAIL_CHANGE":
            code = await email_changes.issue(conn, mail["email_key"])
    else:
        to, name, locale = user["email"], user["display_name"], user["locale"]
        if mail_texts.needs_code(what):
            code = await password_codes.issue(conn, str(user["id"]), life=password_codes.LIVES[user["state"]])
    if mail_texts.needs_code(what) and not code:
        return None
    return mail_texts.compose(
        what,
        to=to,
        name=name,
        locale=locale,
        code=code,
        sender=sender,
        studio_url=studio_url,
    )


async def _try(send: Send, message: EmailMessage, *, kind: str) -> str:
    try:
        async with asyncio.timeout(SEND_SECONDS):
            await send(message)
    except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
        # The text of a server's answer may hold the address.
        _log.warning("mail_not_sent", kind=kind, error=type(error).__name__)
        return "failed"
    return "sent"


def by_smtp(url: str) -> Send:
    """Sends to a mail server.

    Args:
        url: `smtp://user:password@host:port`, which turns to TLS by STARTTLS and must, but on this
            machine; or `smtps://…`, which is TLS from the start.

    Raises:
        ValueError: it is neither.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
        raise ValueError("must be smtp://user:password@host:port or smtps://…")
    is_local = parts.hostname in ("localhost", "127.0.0.1", "::1")

    async def send(message: EmailMessage) -> None:
        await aiosmtplib.send(
            message,
            hostname=parts.hostname,
            port=parts.port or (465 if parts.scheme == "smtps" else 587),
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            use_tls=parts.scheme == "smtps",
            # None: where the server offers it.
            start_tls=None if is_local and parts.scheme == "smtp" else parts.scheme == "smtp",
            timeout=SEND_SECONDS,
        )

    return send


def to_folder(folder: Path) -> Send:
    """Puts each mail into a file of its own, which only we can read, instead of sending it."""

    def write(message: EmailMessage) -> Path:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{uuid.uuid4().hex}.eml"
        # Under another name until it is complete.
        scratch = path.with_suffix(".new")
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(message.as_bytes())
        return scratch.rename(path)

    async def send(message: EmailMessage) -> None:
        path = await asyncio.to_thread(write, message)
        _log.info("mail_written", file=str(path))

    return send
