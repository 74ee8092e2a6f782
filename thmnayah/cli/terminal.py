"""What all commands share: their options, how they print, and how they say that something failed."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import grpc
import typer
from google.protobuf.json_format import MessageToDict, Parse, ParseError
from google.protobuf.message import Message
from rich.console import Console
from rich.text import Text

from thmnayah.client import ApiError

M = TypeVar("M", bound=Message)

DEFAULT_SERVER = "127.0.0.1:8080"
DEFAULT_LOCALE = "en"

Server = Annotated[
    str, typer.Option("--server", envvar="THMNAYAH_SERVER", help="Address of the gateway; https:// speaks TLS.")
]
Locale = Annotated[
    str, typer.Option("--locale", envvar="THMNAYAH_LOCALE", help="Language of titles and messages, such as ar.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object a line, for programs.")]

# Where nobody watches, lines are read by programs such as grep: they are not broken.
out = Console(width=None if os.isatty(1) else 200, highlight=False)
err = Console(stderr=True, highlight=False, soft_wrap=True)


class CommandError(Exception):
    """A command that cannot do what it was asked to, told in one line."""


def print_json(value: Message | Mapping[str, Any]) -> None:
    """One line on standard output; a message in the JSON form of the REST API."""
    fields = MessageToDict(value) if isinstance(value, Message) else value
    typer.echo(json.dumps(fields, ensure_ascii=False))


def read_json(file: Path, message: M, what: str) -> M:
    """A message from a file in the JSON form of the REST API. Raises: CommandError when it holds none."""
    try:
        return Parse(file.read_text(encoding="utf-8"), message)
    except (ParseError, UnicodeDecodeError) as error:
        raise CommandError(f"{file} holds no {what}: {error}") from None


def print_error(message: str) -> None:
    """One line on standard error."""
    err.print(Text("error: ", style="bold red") + Text(" ".join(message.split())))


def describe(error: ApiError) -> str:
    """A failed call in one line that names the fields at fault."""
    if error.code() == grpc.StatusCode.UNAVAILABLE and not error.reason:
        return f"the server does not answer ({error.message}); `thmnayah doctor` looks for the reason"
    told = "; ".join(f"{field}: {why}" for field, why in error.violations.items()) or error.message
    if error.reason:
        told += f" ({error.reason})"
    if error.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN) and error.request_id:
        told += f" (request {error.request_id})"
    if error.code() == grpc.StatusCode.UNAUTHENTICATED and error.reason != "CREDENTIALS_INVALID":
        told += "; `thmnayah login` signs you in"
    return told


def in_locale(texts: Mapping[str, str], locale: str) -> str:
    """The text in this locale, or else in another one that has it."""
    for choice in (locale, "ar", "en", *texts):
        if choice in texts:
            return texts[choice]
    return ""
