"""Mails on their way: to a real SMTP server, and what happens while there is none."""

import asyncio
import email
from collections.abc import AsyncIterator
from email.message import EmailMessage
from email.policy import default

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from services.auth import mail_texts, mails
from tests.conftest import free_port

PASSWORD = "p@ss/word"


class Received:
    """A mail server's memory."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 — its name
        self.envelopes.append(envelope)
        return "250 OK"


def _authenticate(_server: object, _session: object, _envelope: object, _mechanism: str, data: object) -> AuthResult:
    # Not handled: the server itself answers who is refused.
    return AuthResult(success=getattr(data, "password", b"") == PASSWORD.encode(), handled=False)


@pytest.fixture
async def server() -> AsyncIterator[tuple[str, Received]]:
    """The URL of a mail server that wants a password, and what it took."""
    received, port = Received(), free_port()
    controller = Controller(
        received,
        hostname="127.0.0.1",
        port=port,
        authenticator=_authenticate,
        auth_require_tls=False,
    )
    await asyncio.to_thread(controller.start)
    yield f"127.0.0.1:{port}", received
    await asyncio.to_thread(controller.stop)


def message() -> EmailMessage:
    return mail_texts.compose(
        "RESET",
        to="sara@example.com",
        name="سارة",
        locale="ar",
        code="c" * 43,
        sender="ثمناية <no-reply@example.com>",
        studio_url="",
    )


async def test_a_mail_gets_to_a_mail_server_as_it_is(server: tuple[str, Received]) -> None:
    address, received = server

    await mails.by_smtp(f"smtp://user:p%40ss%2Fword@{address}")(message())

    (envelope,) = received.envelopes
    assert (envelope.mail_from, envelope.rcpt_tos) == ("no-reply@example.com", ["sara@example.com"])
    assert isinstance(envelope.content, bytes)
    got = email.message_from_bytes(envelope.content, policy=default)
    assert isinstance(got, EmailMessage)
    assert (got["Subject"], got["Content-Language"]) == ("إعادة تعيين كلمة المرور", "ar")
    assert got["From"].addresses[0].display_name == "ثمناية"
    for kind in ("plain", "html"):
        part = got.get_body((kind,))
        assert part is not None
        assert "c" * 43 in part.get_content()
        assert "سارة" in part.get_content()


async def test_a_wrong_password_or_no_server_is_a_failure_to_try_again(server: tuple[str, Received]) -> None:
    address, received = server
    for url in (f"smtp://user:wrong@{address}", f"smtp://127.0.0.1:{free_port()}"):
        assert await mails._try(mails.by_smtp(url), message(), kind="PASSWORD") == "failed"  # noqa: SLF001 — what the relay does
    assert received.envelopes == []


@pytest.mark.parametrize("url", ["http://example.com", "smtp://", "mail.example.com"])
def test_what_is_no_mail_server_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="smtp"):
        mails.by_smtp(url)


@pytest.mark.parametrize(
    "what",
    ["INVITED", "UNVERIFIED", "RESET", "EXISTS", "PASSWORD_CHANGED", "EMAIL_CHANGE", "EMAIL_TAKEN", "EMAIL_CHANGED"],
)
@pytest.mark.parametrize("locale", ["ar", "en"])
def test_every_mail_is_there_in_both_languages(what: str, locale: str) -> None:
    code = "c" * 43 if mail_texts.needs_code(what) else ""
    mail = mail_texts.compose(
        what, to="a@example.com", name="", locale=locale, code=code, sender="x@example.com", studio_url="https://s"
    )

    body = mail.get_body(("plain",))
    assert body is not None
    arabic = any("\u0600" <= character <= "\u06ff" for character in mail["Subject"] + body.get_content())
    assert arabic == (locale == "ar")
    assert (code or "#") in body.get_content() or not code
