"""OpenID Connect providers that administrators define."""

from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp

from libs import etags, masks, text
from libs.db import Connection, Record, fetch_one
from libs.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from libs.identity import caller
from libs.permissions import OLD_NAMES
from services.auth import keys, roles
from services.auth.oidc_client import Client, Party
from thmnayah.auth.v1.oidc_pb2 import (
    ListOidcProvidersResponse,
    ListSignInProvidersResponse,
    OidcProvider,
    SignInProvider,
)

MOST = 100
_SETTABLE = (
    *("issuer", "client_id", "client_secret", "scopes", "redirect_uris", "groups_claim", "group_roles"),
    *("create_users", "enabled", "display_name"),
)
_COLUMNS = (
    "id, issuer, client_id, scopes, redirect_uris, groups_claim, group_roles, create_users, enabled,"
    " display_name, version, create_time, update_time"
)


@dataclass(frozen=True)
class Settings:
    """A provider, with what only this service knows of it."""

    provider: OidcProvider
    party: Party


async def get(conn: Connection, provider_id: str) -> OidcProvider:
    """Raises: NotFound."""
    return _provider(await _row(conn, provider_id))


async def list_all(conn: Connection) -> ListOidcProvidersResponse:
    """All of them, by their ids."""
    rows = await conn.fetch(f"SELECT {_COLUMNS} FROM oidc_providers")
    return ListOidcProvidersResponse(oidc_providers=sorted(map(_provider, rows), key=lambda provider: str(provider.id)))


async def list_enabled(conn: Connection) -> ListSignInProvidersResponse:
    """What everybody may know of those that people can sign in by, by their ids."""
    rows = await conn.fetch('SELECT id, display_name FROM oidc_providers WHERE enabled ORDER BY id COLLATE "C"')
    return ListSignInProvidersResponse(
        sign_in_providers=[SignInProvider(id=row["id"], display_name=row["display_name"]) for row in rows]
    )


async def settings(conn: Connection, provider_id: str, secret_key: bytes) -> Settings:
    """A provider that people can sign in by. Raises: NotFound."""
    row = await _row(conn, provider_id)
    if not row["enabled"]:
        raise _not_found(provider_id)
    client_secret = keys.unseal(row["client_secret"], secret_key, _about(provider_id)).decode()
    return Settings(_provider(row), Party(provider_id, row["issuer"], row["client_id"], client_secret))


async def create(conn: Connection, provider: OidcProvider, client: Client, secret_key: bytes) -> OidcProvider:
    """Define a provider. Raises: as CreateOidcProvider says."""
    await _check(conn, provider, client)
    if not provider.client_secret:
        raise InvalidArgument({"oidcProvider.clientSecret": "is needed"})
    if await conn.fetchval("SELECT count(*) FROM oidc_providers") >= MOST:
        raise FailedPrecondition(
            "TOO_MANY_OIDC_PROVIDERS", f"there are {MOST} providers already", f"يوجد {MOST} مزوّد بالفعل"
        )
    row = await conn.fetchrow(
        f"""
        INSERT INTO oidc_providers (id, client_secret, issuer, client_id, scopes, redirect_uris, groups_claim,
                                    group_roles, create_users, enabled, display_name)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        ON CONFLICT (id) DO NOTHING RETURNING {_COLUMNS}
        """,
        provider.id,
        keys.seal(provider.client_secret.encode(), secret_key, _about(provider.id)),
        *_values(provider),
    )
    if row is None:
        raise AlreadyExists(
            "OIDC_PROVIDER_EXISTS",
            f"there is a provider {provider.id}",
            f"يوجد مزوّد بالاسم {provider.id}",
            violations={"oidcProvider.id": "is taken"},
        )
    return _provider(row)


async def update(
    conn: Connection, provider: OidcProvider, client: Client, secret_key: bytes, *, paths: Sequence[str], etag: str
) -> OidcProvider:
    """Change a provider at the paths given, or at every field that holds a value.

    Raises:
        as UpdateOidcProvider says.
    """
    changed = masks.changed(provider, paths, _SETTABLE)
    row = await _row(conn, provider.id, lock=True)
    etags.check(etag, row["version"], what=("provider", "المزوّد"))
    before = _provider(row)
    after = masks.merged(before, provider, changed)
    if after.issuer != before.issuer and not after.client_secret:
        raise InvalidArgument({"oidcProvider.clientSecret": "is needed with another issuer"})
    # All of it: whoever changes a provider says anew what its people get.
    await _check(conn, after, client)
    secret = after.client_secret
    row = await fetch_one(
        conn,
        f"""
        UPDATE oidc_providers
        SET client_secret = coalesce($2, client_secret), issuer = $3, client_id = $4, scopes = $5, redirect_uris = $6,
            groups_claim = $7, group_roles = $8, create_users = $9, enabled = $10, display_name = $11,
            version = version + 1, update_time = now()
        WHERE id = $1 RETURNING {_COLUMNS}
        """,
        provider.id,
        keys.seal(secret.encode(), secret_key, _about(provider.id)) if secret else None,
        *_values(after),
    )
    return _provider(row)


async def delete(conn: Connection, provider_id: str) -> None:
    """Raises: NotFound."""
    if await conn.fetchval("DELETE FROM oidc_providers WHERE id = $1 RETURNING true", provider_id) is None:
        raise _not_found(provider_id)


async def _check(conn: Connection, provider: OidcProvider, client: Client) -> None:
    wrong = {
        f"oidcProvider.{field}": "is needed"
        for field, value in (
            ("issuer", provider.issuer),
            ("clientId", provider.client_id),
            ("redirectUris", provider.redirect_uris),
        )
        if not value
    }
    if wrong:
        raise InvalidArgument(wrong)
    if reason := client.refusal(provider.issuer):
        raise InvalidArgument({"oidcProvider.issuer": reason})
    if "?" in provider.issuer:
        raise InvalidArgument({"oidcProvider.issuer": "must not hold a query"})
    for group, role in provider.group_roles.items():
        provider.group_roles[group] = OLD_NAMES.get(role, role)
    await roles.assignable(
        conn,
        list(dict.fromkeys(provider.group_roles.values())),
        by=caller.get(),
        field="oidcProvider.groupRoles",
    )


async def _row(conn: Connection, provider_id: str, *, lock: bool = False) -> Record:
    row = await conn.fetchrow(
        f"SELECT {_COLUMNS}, client_secret FROM oidc_providers WHERE id = $1 {'FOR UPDATE' if lock else ''}",
        provider_id,
    )
    if row is None:
        raise _not_found(provider_id)
    return row


def _values(provider: OidcProvider) -> list[object]:
    return [
        provider.issuer,
        provider.client_id,
        list(provider.scopes) or ["email", "profile"],
        list(provider.redirect_uris),
        provider.groups_claim or "groups",
        dict(provider.group_roles),
        provider.create_users,
        provider.enabled,
        {locale: text.nfc(name) for locale, name in provider.display_name.items()},
    ]


def _provider(row: Record) -> OidcProvider:
    provider = OidcProvider(
        id=row["id"],
        issuer=row["issuer"],
        client_id=row["client_id"],
        scopes=row["scopes"],
        redirect_uris=row["redirect_uris"],
        groups_claim=row["groups_claim"],
        group_roles=row["group_roles"],
        create_users=row["create_users"],
        enabled=row["enabled"],
        display_name=row["display_name"],
        etag=f'"{row["version"]}"',
    )
    for name in ("create_time", "update_time"):
        moment = Timestamp()
        moment.FromDatetime(row[name])
        getattr(provider, name).CopyFrom(moment)
    return provider


def _about(provider_id: str) -> str:
    return f"oidc_providers/{provider_id}"


def _not_found(provider_id: str) -> NotFound:
    return NotFound("OIDC_PROVIDER_NOT_FOUND", f"no provider {provider_id}", f"لا يوجد مزوّد {provider_id}")
