"""Second factors, for administrators."""

from enum import StrEnum
from typing import Annotated

import typer

from thmnayah.auth.v1.mfa_pb2 import GetMfaPolicyRequest, MfaRule, ResetUserMfaRequest, UpdateMfaRuleRequest
from thmnayah.cli.session import Who, connect_as_user, user_id
from thmnayah.cli.terminal import DEFAULT_LOCALE, DEFAULT_SERVER, AsJson, Locale, Server, out, print_json


class Requirement(StrEnum):
    """What a role demands, as it is typed."""

    OPTIONAL = "optional"
    REQUIRED = "required"
    PASSKEY = "passkey"


_REQUIREMENTS = {
    Requirement.OPTIONAL: MfaRule.OPTIONAL,
    Requirement.REQUIRED: MfaRule.REQUIRED,
    Requirement.PASSKEY: MfaRule.PASSKEY_REQUIRED,
}


async def policy(*, server: Server = DEFAULT_SERVER, locale: Locale = DEFAULT_LOCALE, as_json: AsJson = False) -> None:
    """Show what each role demands; a role that is not named demands nothing."""
    async with connect_as_user(server, locale) as mesh:
        rules = (await mesh.mfa.GetMfaPolicy(GetMfaPolicyRequest())).rules
    for rule in rules:
        _show(rule, as_json=as_json)


async def require(
    role: Annotated[str, typer.Argument(help="Its name.")],
    requirement: Annotated[Requirement, typer.Argument(help="What everybody who has the role must have.")],
    *,
    server: Server = DEFAULT_SERVER,
    locale: Locale = DEFAULT_LOCALE,
    as_json: AsJson = False,
) -> None:
    """Set what a role demands. Who has the role and less than that has to sign in again."""
    rule = MfaRule(role=role, requirement=_REQUIREMENTS[requirement])
    async with connect_as_user(server, locale) as mesh:
        _show(await mesh.mfa.UpdateMfaRule(UpdateMfaRuleRequest(rule=rule)), as_json=as_json)


async def reset(
    who: Who,
    *,
    server: Server = DEFAULT_SERVER,
    locale: Locale = DEFAULT_LOCALE,
) -> None:
    """Remove all second factors of somebody who has lost them; the person's sessions end."""
    async with connect_as_user(server, locale) as mesh:
        await mesh.mfa.ResetUserMfa(ResetUserMfaRequest(id=await user_id(mesh, who)))
    out.print(f"{who}  has no second factor now", markup=False)


def _show(rule: MfaRule, *, as_json: bool) -> None:
    if as_json:
        print_json(rule)
    else:
        out.print(f"{rule.role}  {MfaRule.Requirement.Name(rule.requirement)}", markup=False)
