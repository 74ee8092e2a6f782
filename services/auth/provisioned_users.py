"""People whom an identity provider made here, by SCIM: what it may see and change of them."""

from collections.abc import Callable
from dataclasses import dataclass

import asyncpg
from scim2_models import GroupMembership, Meta

from libs import etags, rpc
from libs.db import Connection, Record
from libs.errors import AlreadyExists, Forbidden, InvalidArgument
from services.auth import password_codes, people, scim, users
from thmnayah.auth.v1 import auth_pb2
from thmnayah.auth.v1.users_pb2 import InviteUserRequest, UserDisabled, UserUpdated

FILTERS: scim.Columns = {
    "id": ("users.id::text = {}", str.lower),
    "username": ("user_name_key = {}", users.key),
    "externalid": ("external_id = {}", str),
    "emails": ("email_key = {}", users.key),
    "emails.value": ("email_key = {}", users.key),
    "displayname": ("lower(display_name) = lower({})", str),
    "active": ("(state <> 'DISABLED') = {}", bool),
}
_COLUMNS = f"""
    {users.COLUMNS}, update_time, user_name, external_id, formatted_name, given_name, family_name, deactivated,
    ARRAY(SELECT group_id FROM group_members m WHERE m.user_id = users.id ORDER BY group_id) AS group_ids
"""
WHAT = ("account", "الحساب")
_FROM = "FROM users JOIN provisioned_users ON provisioned_users.user_id = users.id"


@dataclass(frozen=True)
class Provisioned:
    """A person, here and in SCIM."""

    user: auth_pb2.User
    resource: scim.User
    deactivated: bool
    """Whether the provisioner closed the account."""


async def get(conn: Connection, user_id: str, *, lock: bool = False) -> Provisioned:
    """Raises: NotFound, also for somebody whom nobody provisioned."""
    row = await conn.fetchrow(
        f"SELECT {_COLUMNS} {_FROM} WHERE users.id = $1 {'FOR NO KEY UPDATE OF users' if lock else ''}", user_id
    )
    if row is None:
        raise users.not_found(user_id)
    return _provisioned(row)


async def list_page(conn: Connection, filter: str, *, start: int, count: int) -> tuple[list[scim.User], int]:
    """Those that a filter finds, from the `start`th on, and how many there are of them.

    Raises:
        InvalidArgument: the filter cannot be read.
    """
    parameters: list[object] = []
    where = scim.condition(filter, scim.User, FILTERS, parameters)
    total = await conn.fetchval(f"SELECT count(*) {_FROM} WHERE {where}", *parameters)
    rows = await conn.fetch(
        f"SELECT {_COLUMNS} {_FROM} WHERE {where} ORDER BY users.id OFFSET {start - 1} LIMIT {count}", *parameters
    )
    return [_provisioned(row).resource for row in rows], total


async def create(conn: Connection, given: scim.User) -> Provisioned:
    """Add an account that has no password.

    Raises:
        AlreadyExists: there is an account with the user name or the address.
        InvalidArgument: a value cannot be.
    """
    address, display_name, locale = _profile(given, given.address or str(given.user_name))
    active = given.active is not False
    user = await people.add(
        conn,
        email=address,
        display_name=display_name,
        roles=["reader"],
        locale=locale,
        state="INVITED" if active else "DISABLED",
    )
    if user is None:
        raise _taken()
    made = await conn.fetchval(
        """
        INSERT INTO provisioned_users (user_id, user_name, user_name_key, external_id, formatted_name, given_name,
                                       family_name, deactivated)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        ON CONFLICT (user_name_key) DO NOTHING RETURNING true
        """,
        user.id,
        *_own(given),
        not active,
    )
    if made is None:
        raise _taken()
    await conn.execute("UPDATE users SET time_zone = $2 WHERE id = $1", user.id, given.timezone or "")
    return await get(conn, user.id)


async def change(
    conn: Connection, user_id: str, changed: Callable[[scim.User], scim.User], *, etag: str
) -> tuple[Provisioned, UserUpdated | UserDisabled | None]:
    """Make a person what the provisioner says.

    Args:
        changed: what the person is to be, of what the person is; what is None there is taken away, but for
            `active` and `locale`, which stay.
        etag: the version the change is based on; "" for any.

    Returns:
        The person as it is now, and the event; None when nothing changed.

    Raises:
        NotFound: nobody provisioned such a person.
        Conflict: it is at another version.
        AlreadyExists, InvalidArgument: as `create`.
        Forbidden: a provisioner may not.
        FailedPrecondition: nobody else could administer the installation.
    """
    before = await get(conn, user_id, lock=True)
    etags.check(etag, *etags.versions(before.user.etag), what=WHAT)
    was, after = before.resource, changed(before.resource)
    address = after.address or str(after.user_name)
    if address == was.address == was.user_name:
        address = str(after.user_name)  # one and the same until now: it goes with the name
    address, display_name, locale = _profile(after, address)
    locale = locale or before.user.locale
    if users.key(address) != users.key(before.user.email):
        if set(before.user.roles) - {"reader"}:
            raise _protected(
                "an administrator gave this person roles: the address cannot be changed by SCIM",
                "منح مدير هذا الشخص أدوارًا؛ لا يمكن تغيير عنوانه عبر SCIM",
            )
        await password_codes.forget(conn, user_id)  # they were mailed to the old one
    profile = (address, display_name, locale, after.timezone or "")
    renamed = _own(after) != _own(was) or profile != (
        *(before.user.email, before.user.display_name),
        *(before.user.locale, before.user.time_zone),
    )
    if renamed:
        await _store(conn, user_id, after, profile)
    disabled = before.user.state == auth_pb2.User.DISABLED
    if after.active is False and not disabled:
        await people.disable(conn, user_id)
    elif after.active and disabled:
        if not before.deactivated:
            raise _protected(
                "an administrator closed this account; only an administrator opens it",
                "أغلق مدير هذا الحساب؛ لا يفتحه إلا مدير",
            )
        await people.enable(conn, user_id)
    now_disabled = after.active is False or (disabled and not after.active)
    if now_disabled != disabled:
        await conn.execute("UPDATE provisioned_users SET deactivated = $2 WHERE user_id = $1", user_id, now_disabled)
    elif not renamed:
        return before, None
    result = await get(conn, user_id)
    return result, UserDisabled(user=result.user) if now_disabled > disabled else UserUpdated(user=result.user)


async def _store(conn: Connection, user_id: str, after: scim.User, profile: tuple[str, str, str, str]) -> None:
    address, *rest = profile
    try:
        await conn.execute(
            """
            UPDATE users SET email = $2, email_key = $3, display_name = $4, locale = $5, time_zone = $6,
                             version = version + 1
            WHERE id = $1
            """,
            user_id,
            address,
            users.key(address),
            *rest,
        )
        await conn.execute(
            """
            UPDATE provisioned_users SET user_name = $2, user_name_key = $3, external_id = $4, formatted_name = $5,
                                         given_name = $6, family_name = $7
            WHERE user_id = $1
            """,
            user_id,
            *_own(after),
        )
    except asyncpg.UniqueViolationError:
        raise _taken() from None


def _profile(given: scim.User, address: str) -> tuple[str, str, str]:
    """The address, name and language of somebody's account. Raises: InvalidArgument, naming the attribute."""
    name = given.name or scim.Name()
    full = name.formatted or " ".join(filter(None, (name.given_name, name.family_name)))
    display_name = given.display_name or full[:120]
    locale = (given.locale or "").replace("_", "-")
    language, dash, region = locale.partition("-")
    locale = language.lower() + dash + region
    try:
        rpc.validate(InviteUserRequest(email=address, display_name=display_name, locale=locale, roles=["reader"]))
        if given.timezone:
            people.check_time_zone(given.timezone, field="timezone")
    except InvalidArgument as error:
        field, description = next(iter(error.violations.items()))
        field = ("emails.value" if given.address else "userName") if field == "email" else field
        raise scim.invalid(field, description) from None
    return address, display_name, locale


def _own(resource: scim.User) -> tuple[str | None, ...]:
    """What is kept beside the account."""
    name = resource.name or scim.Name()
    user_name = str(resource.user_name)
    return (
        *(user_name, users.key(user_name), resource.external_id),
        *(name.formatted, name.given_name, name.family_name),
    )


def _provisioned(row: Record) -> Provisioned:
    user = users.message(row)
    name = scim.Name(formatted=row["formatted_name"], given_name=row["given_name"], family_name=row["family_name"])
    resource = scim.User(
        id=user.id,
        external_id=row["external_id"],
        user_name=row["user_name"],
        name=name if any((name.formatted, name.given_name, name.family_name)) else None,
        display_name=user.display_name or None,
        locale=user.locale or None,
        timezone=user.time_zone or None,
        active=user.state != auth_pb2.User.DISABLED,
        emails=[scim.Email(value=user.email, type="work", primary=True)],
        groups=[
            GroupMembership(value=str(each), ref=f"{scim.BASE}/Groups/{each}", type="direct")
            for each in row["group_ids"]
        ]
        or None,
        meta=Meta(
            resource_type="User",
            created=row["create_time"],
            last_modified=row["update_time"],
            location=f"{scim.BASE}/Users/{user.id}",
            version=user.etag,
        ),
    )
    return Provisioned(user, resource, row["deactivated"])


def _taken() -> AlreadyExists:
    return scim.taken(
        "SCIM_USER_EXISTS",
        "userName",
        "there is an account with this user name or e-mail address",
        "يوجد حساب باسم المستخدم هذا أو بهذا البريد الإلكتروني",
    )


def _protected(english: str, arabic: str) -> Forbidden:
    return Forbidden("SCIM_USER_PROTECTED", english, arabic)
