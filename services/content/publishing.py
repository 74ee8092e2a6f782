"""What readers see of an item: shown to them, and taken from them."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from libs import etags
from libs.db import Connection
from libs.errors import FailedPrecondition
from services.content import contents, fields, references, slugs, stages
from services.content.alone import Alone
from services.content.contents import LOCALISED
from services.content.references import Reference
from services.content.stages import Row
from thmnayah.content.v1.content_pb2 import Content, ContentPublished, ContentUnpublished


async def publish(
    conn: Connection, row: Row, *, locales: Sequence[str], etag: str = "", also: Mapping[str, Any] | None = None
) -> Content | None:
    """Show the draft of a row, as it is now, to readers in some locales, or in all that have a title.

    Args:
        row: locked, or read alone with what readers see.
        also: other columns to change with it.

    Returns:
        The item as editors see it; None when readers saw just that already.

    Raises:
        FailedPrecondition: the item is not complete, or refers to what readers do not see.
    """
    etags.check(etag, row["version"])
    alone = isinstance(conn, Alone)
    known: Mapping[str, Collection[str]] = {}
    if alone:
        stored = row["shown"]
    else:
        targets = {target for _, _, target in references.of(row["fields"])}
        known, stored = await references.seen(conn, targets, by=str(row["id"]))
    shown, wanted, chosen = sides(row, stored, locales)
    if not is_new(row, shown, wanted, chosen):
        return None
    changed = {**columns(row, chosen), **(also or {})}
    if wanted == shown:  # changed and changed back
        return await contents.store(conn, row, changed)
    before, after = references.of(shown.fields), references.of(wanted.fields)
    if not alone:
        await references.check(conn, row, contents.type_of(row), after, locales=chosen, known=known)
        return await _store(conn, row, wanted, changed, (before, after))
    referred = {(target, at) for _, at, target in after if at in ("", *chosen) and target != str(row["id"])}
    return await _store(conn, row, wanted, changed, (before, after), referred=referred)


def sides(row: Row, stored: bytes | None, locales: Sequence[str]) -> tuple[Content, Content, list[str]]:
    """What readers see of an item, what they would see once its draft is published in some locales, and these.

    Raises:
        FailedPrecondition: the item is not complete.
    """
    shown = Content() if stored is None else Content.FromString(stored)
    wanted = Content()
    wanted.CopyFrom(shown)
    chosen = check_publishable(row, locales, wanted)
    for locale in chosen:
        for field in LOCALISED:
            _copy_locale(row[field], getattr(wanted, field), locale)
    wanted.category = row["category"] or ""
    wanted.external_id = row["external_id"] or ""
    wanted.tags[:] = row["tags"]
    return shown, wanted, chosen


def is_new(row: Row, shown: Content, wanted: Content, chosen: Sequence[str]) -> bool:
    """Whether publishing these locales changes anything: what readers see, or that the draft is newer than that."""
    return wanted != shown or any(stages.modified(row, locale) for locale in chosen)


def columns(row: Row, chosen: Sequence[str]) -> dict[str, Any]:
    """The columns of the row that its publishing in these locales changes."""
    # What all locales share is shown with any of them: others may be as their drafts are, too.
    same = {*chosen, *(locale for locale in row["published"] if not stages.modified(row, locale, shared=False))}
    moment, version = row["moment"].isoformat(), row["version"] + 1
    since = {locale: row["published"].get(locale, {}).get("time", moment) for locale in same}
    published = {**row["published"], **{locale: {"time": time, "version": version} for locale, time in since.items()}}
    reviews = {locale: review for locale, review in row["reviews"].items() if locale not in same}
    done = row["waiting"] is not None and {*(row["waiting"]["locales"] or row["title"])} <= {*chosen}
    return {"published": published, "reviews": reviews, **({"waiting": None} if done else {})}


def check_publishable(row: Row, locales: Sequence[str], shown: Content) -> list[str]:
    """The locales to publish: those that are named, or all with a title that are not put away.

    What its type asks for is there: the fields it requires, the locales, and the approvals.

    Args:
        shown: what readers see; its fields become what they would see, as they are stored.

    Raises:
        FailedPrecondition: saying what is missing.
    """
    kind = contents.type_of(row)
    workflow = kind.workflow
    titled = {locale for locale in row["title"] if locale not in row["archived"]}
    chosen = stages.wanted(row, locales, titled)
    if put_away := sorted({*chosen} & {*row["archived"]}) or ([] if chosen else sorted(row["archived"])):
        raise stages.archived(put_away)
    if wrong := fields.publish(kind, row["fields"], shown, chosen):
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
        unapproved := [
            locale
            for locale in chosen
            if stages.modified(row, locale) and not _approved(row, locale, workflow.required_approvals)
        ]
    ):
        raise FailedPrecondition(
            "APPROVAL_MISSING",
            f"the draft is not approved in: {', '.join(unapproved)}",
            f"لم تُعتمد المسودة في: {', '.join(unapproved)}",
            violations={f"locales.{locale}": "is not approved as it is" for locale in unapproved},
        )
    return chosen


async def unpublish(
    conn: Connection, row: Row, *, locales: Sequence[str], force: bool = False, also: Mapping[str, Any] | None = None
) -> Content | None:
    """Take the item of a locked row from readers in some locales, or in all; it waits to be published no longer.

    Args:
        force: also when published items refer to it.
        also: other columns to change with it.

    Returns:
        The item as editors see it; None when readers do not see these locales.
    """
    gone = set(locales or row["published"]) & set(row["published"])
    waited = {"waiting": None} if row["waiting"] is not None else {}
    if not gone:
        return await contents.store(conn, row, waited) if waited else None
    kept = {locale: each for locale, each in row["published"].items() if locale not in gone}
    wanted = Content.FromString(
        await conn.fetchval("SELECT content FROM publications WHERE id = $1 FOR UPDATE", row["id"])
    )
    if not force:
        await references.check_unused(conn, str(row["id"]), gone if kept else None)
    before = references.of(wanted.fields)
    known = {locale: wanted.slug[locale] for locale in gone}
    await slugs.remember(conn, str(row["id"]), row["type"], known)
    for locale in gone:
        for field in LOCALISED:
            getattr(wanted, field).pop(locale, None)
    fields.unpublish(wanted, gone)
    links = before, references.of(wanted.fields)
    return await _store(conn, row, wanted, {"published": kept, **waited, **(also or {})}, links, unpublished=True)


def _approved(row: Row, locale: str, required: int) -> bool:
    review = row["reviews"].get(locale, {})
    return review.get("stage") == "APPROVED" and len(review["approvals"]) >= required


async def _store(
    conn: Connection,
    row: Row,
    shown: Content,
    columns: Mapping[str, Any],
    links: tuple[set[Reference], set[Reference]],
    *,
    unpublished: bool = False,
    referred: Collection[tuple[str, str]] = (),
) -> Content:
    """Make `shown`, the texts of the published locales, what readers see, and write its columns and its event.

    Args:
        links: what readers saw it refer to, and what they will see.
        referred: see `contents.store`.
    """
    columns = describe(row, shown, columns)
    told = shown
    if shown.fields:
        told = Content()
        told.CopyFrom(shown)
        fields.show(told, contents.type_of(row))
    event = ContentUnpublished(content=told) if unpublished else ContentPublished(content=told)
    return await contents.store(
        conn, row, columns, events=[lambda _: event], shown=shown, links=links, referred=referred
    )


def describe(row: Row, shown: Content, columns: Mapping[str, Any]) -> dict[str, Any]:
    """Say of what readers will see where it stands; the columns, with since when they see any of it."""
    times = [datetime.fromisoformat(each["time"]) for each in columns["published"].values()]
    version = row["version"] + 1
    shown.id = str(row["id"])
    shown.type = row["type"]
    shown.version = version
    shown.etag = f'"{version}-published"'
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
    return {**columns, "publish_time": min(times, default=None)}


def _copy_locale(source: Mapping[str, str], target: Any, locale: str) -> None:
    if locale in source:
        target[locale] = source[locale]
    else:
        target.pop(locale, None)
