"""What readers see of an item: shown to them, and taken from them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from libs.db import Connection
from libs.errors import FailedPrecondition
from services.content import contents, fields, slugs, stages
from services.content.contents import LOCALISED
from services.content.stages import Row
from thmnayah.content.v1.content_pb2 import Content, ContentPublished, ContentUnpublished


async def publish(conn: Connection, row: Row, *, locales: Sequence[str]) -> Content | None:
    """Show the draft of a locked row, as it is now, to readers in some locales, or in all that have a title.

    Returns:
        The item as editors see it; None when readers saw just that already.
    """
    chosen = check_publishable(row, locales)
    stored = await conn.fetchval("SELECT content FROM publications WHERE id = $1", row["id"])
    shown = Content() if stored is None else Content.FromString(stored)
    wanted = Content()
    wanted.CopyFrom(shown)
    for locale in chosen:
        for field in LOCALISED:
            _copy_locale(row[field], getattr(wanted, field), locale)
    wanted.category = row["category"] or ""
    wanted.external_id = row["external_id"] or ""
    wanted.tags[:] = row["tags"]
    fields.publish(contents.type_of(row), row["fields"], wanted, chosen)
    if stored is not None and wanted == shown:
        return None
    moment = row["moment"].isoformat()
    since = {locale: row["published"].get(locale, {}).get("time", moment) for locale in chosen}
    version = row["version"] + 1
    published = {**row["published"], **{locale: {"time": time, "version": version} for locale, time in since.items()}}
    reviews = {locale: review for locale, review in row["reviews"].items() if locale not in chosen}
    return await _store(conn, row, wanted, {"published": published, "reviews": reviews})


def check_publishable(row: Row, locales: Sequence[str]) -> list[str]:
    """The locales to publish: those that are named, or all with a title that are not put away.

    What its type asks for is there: the fields it requires, the locales, and the approvals.

    Raises:
        FailedPrecondition: saying what is missing.
    """
    kind = contents.type_of(row)
    workflow = kind.workflow
    titled = {locale for locale in row["title"] if locale not in row["archived"]}
    chosen = stages.wanted(row, locales, titled)
    if put_away := sorted({*chosen} & {*row["archived"]}) or ([] if chosen else sorted(row["archived"])):
        raise stages.archived(put_away)
    if wrong := fields.publish(kind, row["fields"], Content(), chosen):
        raise FailedPrecondition(
            "LOCALE_INCOMPLETE",
            f"cannot publish before these are complete: {', '.join(wrong)}",
            f"لا يمكن النشر قبل إكمال: {', '.join(wrong)}",
            violations=wrong,
        )
    if missing := [locale for locale in workflow.required_locales if locale not in titled]:
        raise FailedPrecondition(
            "TRANSLATION_INCOMPLETE",
            f"this type is published once it is there in: {', '.join(missing)}",
            f"لا ينشر هذا النوع قبل اكتماله في: {', '.join(missing)}",
            violations={f"title.{locale}": "is required by the type" for locale in missing},
        )
    if workflow.required_approvals and (
        unapproved := [locale for locale in chosen if not _approved(row, locale, workflow.required_approvals)]
    ):
        raise FailedPrecondition(
            "APPROVAL_MISSING",
            f"the draft is not approved in: {', '.join(unapproved)}",
            f"لم تُعتمد المسودة في: {', '.join(unapproved)}",
            violations={f"locales.{locale}": "is not approved as it is" for locale in unapproved},
        )
    return chosen


async def unpublish(
    conn: Connection, row: Row, *, locales: Sequence[str], also: Mapping[str, Any] | None = None
) -> Content | None:
    """Take the item of a locked row from readers in some locales, or in all.

    Args:
        also: other columns to change with it.

    Returns:
        The item as editors see it; None when readers do not see these locales.
    """
    gone = set(locales or row["published"]) & set(row["published"])
    if not gone:
        return None
    kept = {locale: each for locale, each in row["published"].items() if locale not in gone}
    wanted = Content.FromString(await conn.fetchval("SELECT content FROM publications WHERE id = $1", row["id"]))
    known = {locale: wanted.slug[locale] for locale in gone}
    await slugs.remember(conn, str(row["id"]), row["type"], known)
    for locale in gone:
        for field in LOCALISED:
            getattr(wanted, field).pop(locale, None)
    fields.unpublish(wanted, gone)
    return await _store(conn, row, wanted, {"published": kept, **(also or {})}, unpublished=True)


def _approved(row: Row, locale: str, required: int) -> bool:
    review = row["reviews"].get(locale, {})
    return review.get("stage") == "APPROVED" and len(review["approvals"]) >= required


async def _store(
    conn: Connection, row: Row, shown: Content, columns: Mapping[str, Any], *, unpublished: bool = False
) -> Content:
    """Make `shown`, the texts of the published locales, what readers see, and write its columns and its event."""
    times = [datetime.fromisoformat(each["time"]) for each in columns["published"].values()]
    columns = {**columns, "publish_time": min(times, default=None)}
    after = {**row, **columns, "version": row["version"] + 1}
    shown.id = str(row["id"])
    shown.type = row["type"]
    shown.version = after["version"]
    shown.etag = f'"{after["version"]}-published"'
    shown.created_by = row["created_by"]
    shown.create_time.CopyFrom(stages.timestamp(row["create_time"]))
    shown.update_time.CopyFrom(stages.timestamp(row["moment"]))
    shown.state = Content.PUBLISHED if times else Content.DRAFT
    shown.ClearField("publish_time")
    shown.ClearField("locales")
    for locale, since in columns["published"].items():
        status = shown.locales[locale]
        status.state = Content.PUBLISHED
        status.publish_time.CopyFrom(stages.timestamp(datetime.fromisoformat(since["time"])))
    if times:
        shown.publish_time.CopyFrom(stages.timestamp(min(times)))
    await _show(conn, after, shown)
    fields.show(shown, contents.type_of(row))
    told = ContentUnpublished(content=shown) if unpublished else ContentPublished(content=shown)
    return await contents.store(conn, row, columns, events=[lambda _: told])


async def _show(conn: Connection, row: Row, content: Content) -> None:
    """Store what readers see, its fields by their ids."""
    if content.state != Content.PUBLISHED:
        await conn.execute("DELETE FROM publications WHERE id = $1", row["id"])
        return
    await conn.execute(
        """
        INSERT INTO publications
            (id, type, category, tags, external_id, version, create_time, update_time, publish_time, locales, content)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        ON CONFLICT (id) DO UPDATE
        SET category = excluded.category, tags = excluded.tags, external_id = excluded.external_id,
            version = excluded.version, update_time = excluded.update_time,
            publish_time = excluded.publish_time, locales = excluded.locales, content = excluded.content
        """,
        row["id"],
        row["type"],
        content.category or None,
        list(content.tags),
        content.external_id or None,
        row["version"],
        row["create_time"],
        row["moment"],
        row["publish_time"],
        sorted(content.locales),
        content.SerializeToString(deterministic=True),
    )


def _copy_locale(source: Mapping[str, str], target: Any, locale: str) -> None:
    if locale in source:
        target[locale] = source[locale]
    else:
        target.pop(locale, None)
