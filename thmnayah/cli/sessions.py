"""Where people are signed in."""

from typing import Annotated

import typer

from thmnayah.auth.v1.sessions_pb2 import EndSessionRequest, EndSessionsRequest, ListSessionsRequest
from thmnayah.cli.session import connect_as_user, user_id
from thmnayah.cli.terminal import DEFAULT_LOCALE, DEFAULT_SERVER, AsJson, Locale, Server, out, print_json
from thmnayah.client import pages

OfUser = Annotated[
    str, typer.Option("--user", metavar="WHO", help="For administrators: another user's e-mail address or id.")
]


async def list_(
    *, user: OfUser = "", server: Server = DEFAULT_SERVER, locale: Locale = DEFAULT_LOCALE, as_json: AsJson = False
) -> None:
    """List the sessions that have not ended, the newest first."""
    async with connect_as_user(server, locale) as mesh:
        async for page in pages(mesh.sessions.ListSessions, ListSessionsRequest(user_id=await user_id(mesh, user))):
            for session in page.sessions:
                if as_json:
                    print_json(session)
                    continue
                told = " · ".join(filter(None, (session.device_name, session.user_agent)))
                began, used = (
                    moment.ToDatetime().strftime("%Y-%m-%d %H:%M UTC")
                    for moment in (session.create_time, session.last_used_time)
                )
                here = " (this one)" if session.current else ""
                out.print(f"{session.id}  since {began}  used {used}  {told}{here}", markup=False)


async def end(
    session: Annotated[str, typer.Argument(help="The session's id, as `session list` shows it.")],
    *,
    user: OfUser = "",
    server: Server = DEFAULT_SERVER,
    locale: Locale = DEFAULT_LOCALE,
) -> None:
    """Sign one device out."""
    async with connect_as_user(server, locale) as mesh:
        await mesh.sessions.EndSession(EndSessionRequest(user_id=await user_id(mesh, user), id=session))
    out.print(f"Ended {session}.", markup=False)


async def end_all(
    *,
    user: OfUser = "",
    others: Annotated[bool, typer.Option("--others", help="Leave the session of this command.")] = False,
    server: Server = DEFAULT_SERVER,
    locale: Locale = DEFAULT_LOCALE,
) -> None:
    """Sign all devices out, this one too unless told otherwise."""
    scope = EndSessionsRequest.OTHERS if others else EndSessionsRequest.ALL
    async with connect_as_user(server, locale) as mesh:
        answer = await mesh.sessions.EndSessions(EndSessionsRequest(user_id=await user_id(mesh, user), scope=scope))
    out.print(f"Ended {answer.count}.", markup=False)
