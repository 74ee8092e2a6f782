"""What the mesh mailed: files in its data folder, one each."""

import email
import re
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

from deploy.local.mesh import Mesh
from tests.conftest import eventually


def mails_to(mesh: Mesh, address: str) -> list[EmailMessage]:
    """The mails to an address, the oldest first."""
    paths = sorted(Path(mesh.data / "mail").glob("*.eml"), key=lambda path: path.stat().st_mtime_ns)
    mails = [email.message_from_bytes(path.read_bytes(), policy=default) for path in paths]
    return [mail for mail in mails if isinstance(mail, EmailMessage) and mail["To"] == address]


async def mail_to(mesh: Mesh, address: str, count: int = 1) -> EmailMessage:
    """The mail of this number to an address, once it is there."""

    async def found() -> list[EmailMessage]:
        return mails_to(mesh, address)

    return (await eventually(found, lambda mails: len(mails) >= count))[count - 1]


def text_of(mail: EmailMessage, kind: str = "plain") -> str:
    part = mail.get_body((kind,))
    assert part is not None
    return str(part.get_content())


def code_of(mail: EmailMessage) -> str:
    """The code that a mail brings."""
    (code,) = re.findall(r"^[\w-]{43}$", text_of(mail), re.MULTILINE)
    return str(code)
