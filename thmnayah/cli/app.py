"""The command `thmnayah`: which commands there are, and how they end."""

import asyncio
import io
import sys
from collections.abc import Callable, Coroutine, Sequence
from functools import wraps
from importlib.metadata import version
from typing import Annotated, Any, NoReturn, ParamSpec

import typer

from thmnayah.cli import (
    audit,
    contents,
    doctor,
    keys,
    mfa,
    oidc,
    roles,
    search,
    session,
    sessions,
    signing_keys,
    transfer,
    users,
)
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

    sign_ins = typer.Typer(help="Where you, or a user, are signed in.", no_args_is_help=True)
    sign_ins.command("list")(_blocking(sessions.list_))
    sign_ins.command("end")(_blocking(sessions.end))
    sign_ins.command("end-all")(_blocking(sessions.end_all))
    app.add_typer(sign_ins, name="session")

    signing = typer.Typer(help="The keys that access tokens are signed with.", no_args_is_help=True)
    signing.command("list")(_blocking(signing_keys.list_))
    signing.command("rotate")(_blocking(signing_keys.rotate))
    app.add_typer(signing, name="keys")

    role = typer.Typer(help="Roles and what they grant.", no_args_is_help=True)
    role.command("list")(_blocking(roles.list_))
    role.command("show")(_blocking(roles.show))
    role.command("create")(_blocking(roles.create))
    role.command("update")(_blocking(roles.update))
    role.command("delete")(_blocking(roles.delete))
    app.add_typer(role, name="role")

    key = typer.Typer(help="API keys of programs.", no_args_is_help=True)
    key.command("create")(_blocking(keys.create))
    key.command("list")(_blocking(keys.list_))
    key.command("revoke")(_blocking(keys.revoke))
    key.command("rotate")(_blocking(keys.rotate))
    app.add_typer(key, name="key")

    record = typer.Typer(help="The record of what was done and refused.", no_args_is_help=True)
    record.command("list")(_blocking(audit.list_))
    record.command("export")(_blocking(audit.export))
    record.command("verify")(_blocking(audit.verify))
    app.add_typer(record, name="audit")

    factors = typer.Typer(
        help="Second factors: what roles demand, and help for who has lost them.", no_args_is_help=True
    )
    factors.command("policy")(_blocking(mfa.policy))
    factors.command("require")(_blocking(mfa.require))
    factors.command("reset")(_blocking(mfa.reset))
    app.add_typer(factors, name="mfa")

    providers = typer.Typer(help="OpenID Connect providers that people sign in by.", no_args_is_help=True)
    providers.command("list")(_blocking(oidc.list_))
    providers.command("add")(_blocking(oidc.add))
    providers.command("remove")(_blocking(oidc.remove))
    app.add_typer(providers, name="oidc")
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
