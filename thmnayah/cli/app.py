"""The command `thmnayah`: which commands there are, and how they end."""

import asyncio
import io
import sys
from collections.abc import Callable, Coroutine, Sequence
from functools import wraps
from importlib.metadata import version
from typing import Annotated, Any, NoReturn, ParamSpec

import typer

from thmnayah.cli import contents, doctor, search, session, transfer, users
from thmnayah.cli.terminal import CommandError, describe, print_error
from thmnayah.client import ApiError

P = ParamSpec("P")


def _blocking(command: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    @wraps(command)
    def run(*arguments: P.args, **options: P.kwargs) -> None:
        asyncio.run(command(*arguments, **options))

    return run


def build() -> typer.Typer:
    """The whole command line."""
    app = typer.Typer(
        help="Thmnayah, an open content platform for Arabic and English.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
    )
    app.callback()(_root)
    app.command("login")(_blocking(session.login))
    app.command("logout")(_blocking(session.logout))
    app.command("search")(_blocking(search.search))
    app.command("doctor")(_blocking(doctor.doctor))

    content = typer.Typer(help="Items of content.", no_args_is_help=True)
    content.command("list")(_blocking(contents.list_))
    content.command("get")(_blocking(contents.get))
    content.command("create")(_blocking(contents.create))
    content.command("publish")(_blocking(contents.publish))
    content.command("unpublish")(_blocking(contents.unpublish))
    content.command("delete")(_blocking(contents.delete))
    content.command("import")(_blocking(transfer.import_))
    content.command("export")(_blocking(transfer.export))
    app.add_typer(content, name="content")

    user = typer.Typer(help="Accounts of people.", no_args_is_help=True)
    user.command("list")(_blocking(users.list_))
    user.command("show")(_blocking(users.show))
    user.command("create")(_blocking(users.create))
    user.command("invite")(_blocking(users.invite))
    user.command("set-roles")(_blocking(users.set_roles))
    user.command("disable")(_blocking(users.disable))
    user.command("enable")(_blocking(users.enable))
    user.command("delete")(_blocking(users.delete))
    user.command("reset-password")(_blocking(users.reset_password))
    user.command("set-password")(_blocking(users.set_password))
    app.add_typer(user, name="user")
    return app


def _print_version(*, wanted: bool) -> None:
    if wanted:
        typer.echo(version("thmnayah"))
        raise typer.Exit


def _root(
    _: Annotated[bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Say and end.")] = False,
) -> None: ...


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line, with the process's own arguments unless others are given, and exit.

    A failure is one line on standard error and the status 1, wrong usage 2, Ctrl-C 130.
    """
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8")  # Arabic must not depend on the machine's locale
    try:
        build()(arguments)
    except ApiError as error:
        print_error(describe(error))
    except CommandError as error:
        print_error(str(error))
    except OSError as error:
        print_error(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    sys.exit(1)
