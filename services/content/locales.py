"""Locales: what items may be written in, and what stands in where a text is missing."""

from collections.abc import Mapping, Sequence
from typing import Any

from libs import etags, text
from libs.cache import Local
from libs.db import Connection, Pool, Record, connection, fetch_one
from libs.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from thmnayah.content.v1.content_pb2 import GetContentRequest, ListContentsRequest
from thmnayah.content.v1.slugs_pb2 import GetContentBySlugRequest
from thmnayah.content.v1.taxonomy_pb2 import ListLocalesResponse, Locale

# As many as the maps of an item hold.
MOST = 50

_COLUMNS = "code, name, rtl, fallback, version, create_time, update_time"
_UNKNOWN = "is not a locale of this installation"


class Locales:
    """All locales, read from memory."""

    def __init__(self, db: Pool, kept: Local[ListLocalesResponse]) -> None:
        self.db = db
        self.kept = kept

    async def all(self) -> ListLocalesResponse:
        """All of them, by code: do not change it."""
        return await self.kept.get("", self._read)

    async def chain(self, request: GetContentRequest | GetContentBySlugRequest | ListContentsRequest) -> list[str]:
        """The locales that a read looks into, best first; none when it asks for no locale.

        Raises:
            InvalidArgument: one of them is not set up.
        """
        if not request.locale:
            return []
        asked = {request.locale: "locale"}
        for number, code in enumerate(request.fallback_locales):
            asked.setdefault(code, f"fallbackLocales[{number}]")
        fallbacks = _fallbacks(await self.all())
        if not asked.keys() <= fallbacks.keys():
            fallbacks = _fallbacks(await self._read())  # another process may have set it up just now
        unknown = {path: _UNKNOWN for code, path in asked.items() if code not in fallbacks}
        if unknown:
            raise InvalidArgument(unknown)
        own = fallbacks[request.locale] if request.fallback and not request.fallback_locales else ()
        return [*asked, *own]

    async def changed(self) -> None:
        """Let nobody see a locale as it was before a change that is committed."""
        await self.kept.changed("")

    async def _read(self) -> ListLocalesResponse:
        async with connection(self.db) as conn:
            rows = await conn.fetch(f"SELECT {_COLUMNS} FROM locales ORDER BY code")
        return ListLocalesResponse(locales=map(_locale, rows))


def find(known: ListLocalesResponse, code: str) -> Locale:
    """Raises: NotFound when it is not among the known ones."""
    for locale in known.locales:
        if locale.code == code:
            return locale
    raise _not_found(code)


async def create(conn: Connection, locale: Locale) -> Locale:
    """Set up a locale."""
    await _lock(conn)
    name = dict(locale.name)
    await _check_codes(conn, locale, name, locale.fallback)
    if await conn.fetchval("SELECT count(*) FROM locales") >= MOST:
        raise FailedPrecondition("TOO_MANY_LOCALES", f"there may be {MOST} locales", f"الحد الأقصى لعدد اللغات {MOST}")
    row = await conn.fetchrow(
        f"""
        INSERT INTO locales (code, name, rtl, fallback) VALUES ($1, $2, $3, $4)
        ON CONFLICT DO NOTHING
        RETURNING {_COLUMNS}
        """,
        locale.code,
        name,
        locale.direction == Locale.RTL,
        list(locale.fallback),
    )
    if row is None:
        raise AlreadyExists(
            "LOCALE_EXISTS",
            f"the locale {locale.code} is set up already",
            f"اللغة {locale.code} موجودة",
            violations={"locale.code": "is taken"},
        )
    return _locale(row)


async def update(conn: Connection, locale: Locale, *, paths: Sequence[str], etag: str) -> Locale | None:
    """Change a locale at the paths given, or, without any, at every field that holds a value.

    Returns:
        The locale after the change; None when it was like that already.
    """
    await _lock(conn)
    row = await conn.fetchrow(f"SELECT {_COLUMNS} FROM locales WHERE code = $1 FOR UPDATE", locale.code)
    if row is None:
        raise _not_found(locale.code)
    etags.check(etag, row["version"])
    values = {"name": dict(row["name"]), "rtl": row["rtl"], "fallback": row["fallback"]}
    before = {**values, "name": row["name"]}
    for path in _paths(locale, paths):
        _set(values, path, locale)
    await _check_codes(conn, locale, values["name"], values["fallback"])
    if values == before:
        return None
    changed = await fetch_one(
        conn,
        f"""
        UPDATE locales SET name = $2, rtl = $3, fallback = $4, version = version + 1, update_time = now()
        WHERE code = $1
        RETURNING {_COLUMNS}
        """,
        locale.code,
        *values.values(),
    )
    return _locale(changed)


# Locales are added to the table and never taken out, so one that was seen there is known for good.
_known: set[str] = set()


async def check(conn: Connection, used: Mapping[str, str]) -> None:
    """Check that locales are set up.

    Args:
        used: for each code, the path of the field where it stands.

    Raises:
        InvalidArgument: naming the fields of those that are not.
    """
    if wrong := await unknown(conn, used):
        raise InvalidArgument(wrong)


async def unknown(conn: Connection, used: Mapping[str, str]) -> dict[str, str]:
    """Of the fields of `check`, what is wrong with those whose locales are not set up."""
    if not used.keys() <= _known:
        _known.update(await conn.fetchval("SELECT array_agg(code) FROM locales") or ())
    return {path: _UNKNOWN for code, path in sorted(used.items()) if code not in _known}


async def _check_codes(conn: Connection, locale: Locale, name: Mapping[str, str], fallback: Sequence[str]) -> None:
    """Check what a locale says of itself and of others."""
    if not name:
        raise InvalidArgument({"locale.name": "is required in at least one locale"})
    blank = {f"locale.name.{code}": "must hold more than white space" for code in name if text.is_blank(name[code])}
    if blank:
        raise InvalidArgument(blank)
    if locale.code in fallback:
        number = list(fallback).index(locale.code)
        raise InvalidArgument({f"locale.fallback[{number}]": "is the locale itself"})
    used = {code: f"locale.name.{code}" for code in name if code != locale.code}
    used |= {code: f"locale.fallback[{number}]" for number, code in enumerate(fallback)}
    await check(conn, used)


def _paths(locale: Locale, paths: Sequence[str]) -> Sequence[str]:
    if "*" in paths:
        return ("name", "direction", "fallback")
    held = [f"name.{code}" for code in locale.name]
    held += [field for field in ("direction", "fallback") if getattr(locale, field)]
    if not paths and not held:
        raise InvalidArgument({"updateMask": "names no field, and the locale holds none"})
    return paths or held


def _set(values: dict[str, Any], path: str, locale: Locale) -> None:
    field, _, code = path.partition(".")
    if path == "name":
        values["name"] = dict(locale.name)
    elif field == "name" and code in locale.name:
        values["name"][code] = locale.name[code]
    elif field == "name" and code in values["name"]:
        del values["name"][code]
    elif path == "direction":
        if not locale.direction:
            raise InvalidArgument({"locale.direction": "is required"})
        values["rtl"] = locale.direction == Locale.RTL
    elif path == "fallback":
        values["fallback"] = list(locale.fallback)
    elif path not in ("code", "etag"):
        raise InvalidArgument({"updateMask": f"{path} is not for callers to set"})


async def _lock(conn: Connection) -> None:
    """Let one change of locales at a time look at the others; reads go on."""
    await conn.execute("LOCK TABLE locales IN SHARE ROW EXCLUSIVE MODE")


def _fallbacks(known: ListLocalesResponse) -> dict[str, list[str]]:
    return {locale.code: list(locale.fallback) for locale in known.locales}


def _locale(row: Record) -> Locale:
    return Locale(
        code=row["code"],
        name=row["name"],
        direction=Locale.RTL if row["rtl"] else Locale.LTR,
        fallback=row["fallback"],
        version=row["version"],
        etag=f'"{row["version"]}"',
        create_time=row["create_time"],
        update_time=row["update_time"],
    )


def _not_found(code: str) -> NotFound:
    return NotFound("LOCALE_NOT_FOUND", f"no locale {code}", f"لا توجد لغة {code}")
