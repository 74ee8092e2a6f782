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
    groups,
    keys,
    me,
    mfa,
    oidc,
    roles,
    search,
    service_accounts,
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


# What the commands of each group are about, and what they do.
_GROUPS: dict[str, tuple[str, dict[str, Callable[..., Any]]]] = {
    "content": (
        "Items of content.",
        {
            "list": contents.list_,
            "get": contents.get,
            "create": contents.create,
            "publish": contents.publish,
            "unpublish": contents.unpublish,
            "delete": contents.delete,
            "import": transfer.import_,
            "export": transfer.export,
        },
    ),
    "user": (
        "Accounts of people.",
        {
            "list": users.list_,
            "show": users.show,
            "create": users.create,
            "invite": users.invite,
            "set-roles": users.set_roles,
            "set-email": users.set_email,
            "identities": users.identities,
            "unlink": users.unlink,
            "disable": users.disable,
            "enable": users.enable,
            "delete": users.delete,
            "reset-password": users.reset_password,
            "set-password": users.set_password,
        },
    ),
    "group": (
        "Groups that an identity provider keeps, and the roles they give.",
        {
            "list": groups.list_,
            "set-roles": groups.set_roles,
        },
    ),
    "me": (
        "Your own account.",
        {"change-email": me.change_email, "confirm-email": me.confirm_email, "delete": me.delete},
    ),
    "session": (
        "Where you, or a user, are signed in.",
        {
            "list": sessions.list_,
            "end": sessions.end,
            "end-all": sessions.end_all,
        },
    ),
    "keys": (
        "The keys that access tokens are signed with.",
        {"list": signing_keys.list_, "rotate": signing_keys.rotate},
    ),
    "role": (
        "Roles and what they grant.",
        {
            "list": roles.list_,
            "show": roles.show,
            "create": roles.create,
            "update": roles.update,
            "delete": roles.delete,
        },
    ),
    "key": (
        "API keys of programs.",
        {
            "create": keys.create,
            "list": keys.list_,
            "revoke": keys.revoke,
            "rotate": keys.rotate,
        },
    ),
    "service-account": (
        "Accounts of programs.",
        {
            "create": service_accounts.create,
            "list": service_accounts.list_,
            "disable": service_accounts.disable,
            "enable": service_accounts.enable,
            "delete": service_accounts.delete,
        },
    ),
    "audit": (
        "The record of what was done and refused.",
        {
            "list": audit.list_,
            "export": audit.export,
            "verify": audit.verify,
        },
    ),
    "mfa": (
        "Second factors: what roles demand, and help for who has lost them.",
        {
            "policy": mfa.policy,
            "require": mfa.require,
            "reset": mfa.reset,
        },
    ),
    "oidc": (
        "OpenID Connect providers that people sign in by.",
        {"list": oidc.list_, "add": oidc.add, "remove": oidc.remove},
    ),
}


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

    for name, (about, commands) in _GROUPS.items():
        group = typer.Typer(help=about, no_args_is_help=True)
        for command, function in commands.items():
            group.command(command)(_blocking(function))
        app.add_typer(group, name=name)
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
