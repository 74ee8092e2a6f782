"""How many SQL statements each RPC needs, on a database of its own: no more with more rows, locales or fields.

The caches are cold: NATS is away, so nothing that is kept is believed.
"""

import asyncio
import json
import os
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import grpc
import pytest
from asyncpg.connection import LoggedQuery
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from nats.aio.client import Client as NatsClient

from deploy.local.mesh import Mesh
from libs import cache, contracts, db, identity, rpc
from services.content.block_service import BlockService
from services.content.caches import Caches
from services.content.comment_service import CommentService
from services.content.locales import Locales
from services.content.reference_service import ReferenceService
from services.content.service import ContentService, RevisionService, WorkflowService
from services.content.slug_service import SlugService
from services.content.taxonomy_service import TaxonomyService
from services.content.type_service import ContentTypeService
from tests.conftest import bearer
from thmnayah.content.v1 import (
    blocks_pb2,
    blocks_pb2_grpc,
    comments_pb2,
    comments_pb2_grpc,
    content_pb2,
    content_pb2_grpc,
    references_pb2,
    references_pb2_grpc,
    revisions_pb2,
    revisions_pb2_grpc,
    slugs_pb2,
    slugs_pb2_grpc,
    taxonomy_pb2,
    taxonomy_pb2_grpc,
    types_pb2,
    types_pb2_grpc,
    workflow_pb2,
    workflow_pb2_grpc,
)
from thmnayah.content.v1.comments_pb2 import Comment
from thmnayah.content.v1.content_pb2 import Content, Schedule
from thmnayah.content.v1.rich_text_pb2 import Block, RichText, Span
from thmnayah.content.v1.types_pb2 import ContentType, Field, Kind, WorkflowPolicy
from thmnayah.content.v1.values_pb2 import Value

LOCALES = ("ar", "en", "fr", "de", "tr")
RPCS = {each.path.rsplit(".", 1)[1]: each for each in contracts.rpcs() if each.service == "content"}
OF_ASYNCPG = ("typeinfo_tree", "set_config('jit'")
# What begins and ends a transaction comes on top.
FRAME = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")


@dataclass
class Counted:
    """A content service of this file's own, and the statements it sends."""

    channel: grpc.aio.Channel
    pool: db.Pool
    metadata: Any
    statements: list[str] = field(default_factory=list)

    def note(self, record: LoggedQuery) -> None:
        """Note a statement of ours: asyncpg asks for types it does not know by itself, once a connection."""
        if not record.query.startswith(FRAME) and not any(each in record.query for each in OF_ASYNCPG):
            self.statements.append(record.query)

    async def call(self, name: str, request: Message) -> Any:
        method = RPCS[name].descriptor
        call: Any = self.channel.unary_unary(
            RPCS[name].path,
            request_serializer=type(request).SerializeToString,
            response_deserializer=MESSAGES[method.output_type.full_name].FromString,
        )
        return await call(request, metadata=self.metadata, timeout=20)

    async def count(self, name: str, request: Message) -> list[str]:
        """The statements of a call that is served."""
        self.statements.clear()
        await self.call(name, request)
        await asyncio.sleep(0)  # the last statement is told in the next turn of the loop
        return list(self.statements)


MESSAGES: Mapping[str, Any] = {
    each.DESCRIPTOR.full_name: each
    for module in (
        blocks_pb2,
        comments_pb2,
        content_pb2,
        references_pb2,
        revisions_pb2,
        slugs_pb2,
        taxonomy_pb2,
        types_pb2,
        workflow_pb2,
    )
    for each in vars(module).values()
    if isinstance(each, type) and issubclass(each, Message)
} | {"google.api.HttpBody": HttpBody}


@pytest.fixture(scope="module")
async def database(mesh: Mesh) -> AsyncIterator[str]:
    """The address of a new content database that nobody else uses."""
    name = "statements_" + secrets.token_hex(4)
    password = json.loads((mesh.data / "secrets.json").read_text())["postgresql"]
    parts = urlsplit(mesh.database_url("content"))
    server = f"postgresql://postgres:{password}@{parts.hostname}:{parts.port}"
    conn = await asyncpg.connect(f"{server}/postgres")
    await conn.execute(f"CREATE DATABASE {name}")
    url = f"{server}/{name}"
    migrate = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.content", "migrate", env={**os.environ, "THMNAYAH_DATABASE_URL": url}
    )
    assert await migrate.wait() == 0
    yield url
    await conn.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await conn.close()


@pytest.fixture(scope="module")
async def counted(mesh: Mesh, database: str, admin_token: str) -> AsyncIterator[Counted]:
    pool = await db.connect(database, service="content", size=1)
    redis = cache.connect(mesh.redis_url())
    caches = Caches.make(redis, NatsClient(), cache_bytes=2**20, list_cache_bytes=2**20)
    locales = Locales(pool, caches.locales)
    async with rpc.channel(mesh.service_address("auth")) as auth:
        server = grpc.aio.server(interceptors=[rpc.Boundary(identity.Verifier.asking(auth), 128)])
        items = ContentService(pool, caches, locales)
        content_pb2_grpc.add_ContentServiceServicer_to_server(items, server)
        types_pb2_grpc.add_ContentTypeServiceServicer_to_server(ContentTypeService(pool, caches), server)
        taxonomy_pb2_grpc.add_TaxonomyServiceServicer_to_server(TaxonomyService(pool, caches, locales), server)
        workflow_pb2_grpc.add_WorkflowServiceServicer_to_server(WorkflowService(pool, caches), server)
        revisions_pb2_grpc.add_RevisionServiceServicer_to_server(RevisionService(pool), server)
        references_pb2_grpc.add_ReferenceServiceServicer_to_server(ReferenceService(pool), server)
        slugs_pb2_grpc.add_SlugServiceServicer_to_server(SlugService(pool, caches, locales, items), server)
        comments_pb2_grpc.add_CommentServiceServicer_to_server(CommentService(pool), server)
        blocks_pb2_grpc.add_BlockServiceServicer_to_server(BlockService(pool), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            counted = Counted(channel, pool, bearer(admin_token))
            async with pool.acquire() as conn:
                conn.add_query_logger(counted.note)
            for code in LOCALES[2:]:
                locale = taxonomy_pb2.Locale(code=code, name={"en": code}, direction=taxonomy_pb2.Locale.LTR)
                request = taxonomy_pb2.CreateLocaleRequest(locale=locale)
                await counted.call("TaxonomyService/CreateLocale", request)
            yield counted
        await server.stop(None)
    await redis.aclose()
    await pool.close()


@dataclass(frozen=True)
class Size:
    """How much there is."""

    rows: int
    locales: int
    fields: bool


SMALL, LARGE = Size(1, 1, fields=False), Size(20, 5, fields=True)


@dataclass(frozen=True)
class There:
    """What is there when an RPC is called: items of one type, in one category, with one tag, and one item more."""

    word: str
    size: Size
    type: str
    item: str
    """Published, changed since, and under review in all its locales."""
    others: list[str]
    archived: str
    deleted: str
    person: str
    """Referred to by all the others."""
    story: str
    """Has a rich text, whatever the size."""
    threads: list[str]
    """Comments on it, each with a reply."""

    @property
    def title(self) -> dict[str, str]:
        return {locale: f"{self.word} {locale}" for locale in LOCALES[: self.size.locales]}

    def slugs(self, part: str) -> dict[str, str]:
        return {locale: f"{self.word}-{part}-{locale}" for locale in self.title}

    @property
    def values(self) -> dict[str, Value]:
        if not self.size.fields:
            return {}
        texts = {locale: Value(text=self.word) for locale in self.title}
        return {
            "synopsis": Value(localized=Value.Localized(values=texts)),
            "length": Value(number=1),
            "about": Value(reference=self.person),
        }

    def content(self, **fields: Any) -> Content:
        return Content(**{"type": self.type, "title": self.title, "fields": self.values, **fields})


async def make(counted: Counted, size: Size) -> There:
    word = "w" + secrets.token_hex(6)
    fields = [
        Field(name="synopsis", kind=Kind(text=Kind.Text()), localized=True),
        Field(name="length", kind=Kind(number=Kind.Number())),
        Field(name="about", kind=Kind(reference=Kind.Reference())),
        Field(name="code", kind=Kind(text=Kind.Text()), unique=True),
    ]
    kind = ContentType(
        id=f"t-{word}",
        name={"en": "x"},
        fields=fields if size.fields else [],
        workflow=WorkflowPolicy(author_may_approve=True),
    )
    await counted.call("ContentTypeService/CreateContentType", types_pb2.CreateContentTypeRequest(content_type=kind))
    for each in (word, *(f"{word}-{number}" for number in range(size.rows))):
        parent = word if each != word else ""
        category = taxonomy_pb2.Category(id=each, name={"en": each}, parent_id=parent)
        await counted.call("TaxonomyService/CreateCategory", taxonomy_pb2.CreateCategoryRequest(category=category))
    person = await counted.call(
        "ContentService/CreateContent",
        content_pb2.CreateContentRequest(content=Content(type="person", title={"en": word})),
    )
    await counted.call("ContentService/PublishContent", content_pb2.PublishContentRequest(id=person.id))
    text = Value(rich_text=RichText(blocks=[Block(id="b", paragraph=Block.Paragraph(spans=[Span(text="x")]))]))
    story = await counted.call(
        "ContentService/CreateContent",
        content_pb2.CreateContentRequest(
            content=Content(
                type="page",
                title={"en": word},
                fields={"story": Value(localized=Value.Localized(values={"en": text}))},
            )
        ),
    )
    there = There(word, size, kind.id, "", [], "", "", person.id, story.id, [])
    for _ in range(size.rows):
        comment = Comment(content_id=story.id, text=f"@{{{person.id}}}")
        started = await counted.call("CommentService/CreateComment", comments_pb2.CreateCommentRequest(comment=comment))
        there.threads.append(started.id)
    made = []
    for number in range(size.rows + 3):
        content = there.content(category=word, tags=[word])
        if size.fields:
            content.fields["code"].text = f"{word}-{number}"
        request = content_pb2.CreateContentRequest(content=content)
        made.append((await counted.call("ContentService/CreateContent", request)).id)
        await counted.call("ContentService/PublishContent", content_pb2.PublishContentRequest(id=made[-1]))
    item, archived, deleted, *others = made
    for body in ("a", "b"):
        newer = update(item, Content(body=dict.fromkeys(there.title, body), slug=there.slugs(body)), "body", "slug")
        await counted.call("ContentService/UpdateContent", newer)
    await counted.call("WorkflowService/SubmitContent", workflow_pb2.SubmitContentRequest(id=item))
    await counted.call("WorkflowService/ArchiveContent", workflow_pb2.ArchiveContentRequest(id=archived))
    await counted.call("ContentService/DeleteContent", content_pb2.DeleteContentRequest(id=deleted))
    return replace(there, item=item, others=others, archived=archived, deleted=deleted)


def update(content_id: str, content: Content, *paths: str) -> content_pb2.UpdateContentRequest:
    content.id = content_id
    return content_pb2.UpdateContentRequest(content=content, update_mask=FieldMask(paths=paths))


def schedule(there: There) -> workflow_pb2.ScheduleContentRequest:
    moment = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S")
    wanted = Schedule(action=Schedule.PUBLISH, local_time=moment, time_zone="UTC")
    return workflow_pb2.ScheduleContentRequest(id=there.item, schedule=wanted)


def break_type(there: There) -> types_pb2.UpdateContentTypeRequest:
    """Every kind of change at once, all of them counted."""
    number = Kind(number=Kind.Number())
    fields = [
        Field(name="synopsis", kind=number, localized=True, required=True),
        Field(name="about", kind=Kind(reference=Kind.Reference()), unique=True),
        Field(name="new", kind=number, required=True),
    ]
    return types_pb2.UpdateContentTypeRequest(
        content_type=ContentType(id=there.type, fields=fields if there.size.fields else fields[2:]),
        update_mask=FieldMask(paths=["fields"]),
        allow_breaking=True,
    )


# How many statements at most, and what is asked: in this order, of one item and of what is there beside it.
# Another RPC of the service has its place here too.
TABLE: dict[str, tuple[int, Callable[[There], Message]]] = {
    "ContentService/CreateContent": (5, lambda t: content_pb2.CreateContentRequest(content=t.content(category="new"))),
    "ContentService/GetContent": (2, lambda t: content_pb2.GetContentRequest(id=t.item, locale="ar", fallback=True)),
    "ContentService/ListContents": (
        3,
        lambda t: content_pb2.ListContentsRequest(
            filter=f'type = "{t.type}" AND category_path:"{t.word}"',
            page_size=t.size.rows,
            view=content_pb2.PUBLISHED,
            locale="ar",
            fallback=True,
        ),
    ),
    "ContentService/UpdateContent": (8, lambda t: update(t.item, t.content(category="newer", slug=t.slugs("b")), "*")),
    "ContentService/PublishContent": (5, lambda t: content_pb2.PublishContentRequest(id=t.item)),
    "SlugService/GetContentBySlug": (
        3,
        lambda t: slugs_pb2.GetContentBySlugRequest(type=t.type, locale="ar", slug=f"{t.word}-ar", fallback=True),
    ),
    "SlugService/ListOldSlugs": (3, lambda t: slugs_pb2.ListOldSlugsRequest(id=t.item)),
    "SlugService/ReleaseOldSlug": (
        6,
        lambda t: slugs_pb2.ReleaseOldSlugRequest(id=t.item, locale="ar", slug=f"{t.word}-ar"),
    ),
    "ReferenceService/ListReferences": (
        4,
        lambda t: references_pb2.ListReferencesRequest(id=t.person, page_size=t.size.rows),
    ),
    "BlockService/EditBlocks": (
        6,
        lambda t: blocks_pb2.EditBlocksRequest(
            id=t.story, field="story", locale="en", edits=[blocks_pb2.BlockEdit(delete="b")]
        ),
    ),
    "CommentService/CreateComment": (
        4,
        lambda t: comments_pb2.CreateCommentRequest(comment=Comment(content_id=t.story, text="x", field="title.en")),
    ),
    "CommentService/GetComment": (
        1,
        lambda t: comments_pb2.GetCommentRequest(content_id=t.story, id=t.threads[0]),
    ),
    "CommentService/ListComments": (
        1,
        lambda t: comments_pb2.ListCommentsRequest(content_id=t.story, page_size=t.size.rows),
    ),
    "CommentService/UpdateComment": (
        5,
        lambda t: comments_pb2.UpdateCommentRequest(comment=Comment(content_id=t.story, id=t.threads[0], text="y")),
    ),
    "CommentService/ResolveComment": (
        5,
        lambda t: comments_pb2.ResolveCommentRequest(content_id=t.story, id=t.threads[0]),
    ),
    "CommentService/ReopenComment": (
        5,
        lambda t: comments_pb2.ReopenCommentRequest(content_id=t.story, id=t.threads[0]),
    ),
    "CommentService/DeleteComment": (
        6,
        lambda t: comments_pb2.DeleteCommentRequest(content_id=t.story, id=t.threads[0]),
    ),
    "ContentService/UnpublishContent": (6, lambda t: content_pb2.UnpublishContentRequest(id=t.others[0])),
    "ContentService/UndeleteContent": (8, lambda t: content_pb2.UndeleteContentRequest(id=t.deleted)),
    "WorkflowService/SubmitContent": (2, lambda t: workflow_pb2.SubmitContentRequest(id=t.deleted)),
    "WorkflowService/ApproveContent": (3, lambda t: workflow_pb2.ApproveContentRequest(id=t.deleted)),
    "WorkflowService/RequestContentChanges": (
        2,
        lambda t: workflow_pb2.RequestContentChangesRequest(id=t.deleted, note="x"),
    ),
    "WorkflowService/ConfirmTranslation": (
        2,
        lambda t: workflow_pb2.ConfirmTranslationRequest(id=t.item, locales=list(t.title)),
    ),
    "WorkflowService/RestoreContent": (2, lambda t: workflow_pb2.RestoreContentRequest(id=t.archived)),
    "WorkflowService/ScheduleContent": (2, schedule),
    "WorkflowService/UnscheduleContent": (2, lambda t: workflow_pb2.UnscheduleContentRequest(id=t.item)),
    "WorkflowService/ArchiveContent": (8, lambda t: workflow_pb2.ArchiveContentRequest(id=t.item)),
    "RevisionService/ListRevisions": (1, lambda t: revisions_pb2.ListRevisionsRequest(id=t.item)),
    "RevisionService/GetRevision": (2, lambda t: revisions_pb2.GetRevisionRequest(id=t.item, number=1)),
    "RevisionService/DiffRevisions": (2, lambda t: revisions_pb2.DiffRevisionsRequest(id=t.item)),
    "RevisionService/RestoreRevision": (5, lambda t: revisions_pb2.RestoreRevisionRequest(id=t.deleted, number=1)),
    "ContentService/DeleteContent": (7, lambda t: content_pb2.DeleteContentRequest(id=t.item)),
    "ContentTypeService/CreateContentType": (
        2,
        lambda t: types_pb2.CreateContentTypeRequest(content_type=ContentType(id=f"u-{t.word}", name={"en": "x"})),
    ),
    "ContentTypeService/GetContentType": (1, lambda t: types_pb2.GetContentTypeRequest(id=t.type)),
    "ContentTypeService/ListContentTypes": (1, lambda _: types_pb2.ListContentTypesRequest()),
    "ContentTypeService/GetContentTypeSchema": (1, lambda t: types_pb2.GetContentTypeSchemaRequest(id=t.type)),
    "ContentTypeService/UpdateContentType": (11, break_type),
    "ContentTypeService/DeleteContentType": (5, lambda t: types_pb2.DeleteContentTypeRequest(id=f"u-{t.word}")),
    "TaxonomyService/ListLocales": (1, lambda _: taxonomy_pb2.ListLocalesRequest()),
    "TaxonomyService/GetLocale": (1, lambda _: taxonomy_pb2.GetLocaleRequest(code="ar")),
    "TaxonomyService/CreateLocale": (
        4,
        lambda t: taxonomy_pb2.CreateLocaleRequest(
            locale=taxonomy_pb2.Locale(
                code="fa" if t.size == SMALL else "ur",
                name=t.title,
                direction=taxonomy_pb2.Locale.RTL,
                fallback=list(t.title),
            )
        ),
    ),
    "TaxonomyService/UpdateLocale": (
        4,
        lambda t: taxonomy_pb2.UpdateLocaleRequest(locale=taxonomy_pb2.Locale(code="tr", name=t.title)),
    ),
    "TaxonomyService/ListCategories": (
        3,
        lambda t: taxonomy_pb2.ListCategoriesRequest(parent_id=t.word, page_size=t.size.rows),
    ),
    "TaxonomyService/GetCategory": (2, lambda t: taxonomy_pb2.GetCategoryRequest(id=f"{t.word}-0")),
    "TaxonomyService/CreateCategory": (
        9,
        lambda t: taxonomy_pb2.CreateCategoryRequest(
            category=taxonomy_pb2.Category(id=f"{t.word}-new", name=t.title, parent_id=t.word)
        ),
    ),
    "TaxonomyService/UpdateCategory": (
        8,
        lambda t: taxonomy_pb2.UpdateCategoryRequest(category=taxonomy_pb2.Category(id=t.word, name=t.title)),
    ),
    "TaxonomyService/ReorderCategories": (
        8,
        lambda t: taxonomy_pb2.ReorderCategoriesRequest(
            parent_id=t.word, ids=[f"{t.word}-{number}" for number in reversed(range(t.size.rows))]
        ),
    ),
    "TaxonomyService/MoveCategory": (
        13,
        lambda t: taxonomy_pb2.MoveCategoryRequest(id=f"{t.word}-0", parent_id="", position=0),
    ),
    "TaxonomyService/DeleteCategory": (
        26,
        lambda t: taxonomy_pb2.DeleteCategoryRequest(id=t.word, move_to=f"{t.word}-0"),
    ),
    "TaxonomyService/ListTags": (1, lambda t: taxonomy_pb2.ListTagsRequest(prefix=t.word)),
    "TaxonomyService/RenameTag": (
        11,
        lambda t: taxonomy_pb2.RenameTagRequest(tag=t.word, new_tag=f"{t.word}-2"),
    ),
    "TaxonomyService/MergeTags": (
        11,
        lambda t: taxonomy_pb2.MergeTagsRequest(tags=[f"{t.word}-2"], into=f"{t.word}-3"),
    ),
}


def test_every_rpc_that_has_a_database_is_in_the_table() -> None:
    assert TABLE.keys() == {name for name in RPCS if not name.startswith("RichTextService/")}


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["one of each", "many"])
async def test_no_rpc_sends_more_statements_for_more(counted: Counted, size: Size) -> None:
    there = await make(counted, size)

    sent = {name: await counted.count(name, ask(there)) for name, (_, ask) in TABLE.items()}

    above = {name: statements for name, statements in sent.items() if len(statements) > TABLE[name][0]}
    assert above == {}


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["one of each", "many"])
async def test_an_edit_of_one_field_writes_its_revision_its_row_and_its_event(counted: Counted, size: Size) -> None:
    there = await make(counted, size)
    before = await written(counted)

    await counted.call("ContentService/UpdateContent", update(there.item, Content(body={"ar": "c"}), "body.ar"))

    after = await written(counted)
    assert {table: rows - before.get(table, 0) for table, rows in after.items() if rows != before.get(table, 0)} == {
        "contents": 1,
        "revisions": 1,
        "outbox": 1,
    }


async def written(counted: Counted) -> dict[str, int]:
    """How many rows of each table were ever written."""
    async with counted.pool.acquire() as conn:
        await conn.execute("SELECT pg_stat_force_next_flush()")
        await conn.execute("SELECT pg_stat_clear_snapshot()")
        rows = await conn.fetch("SELECT relname, n_tup_ins + n_tup_upd + n_tup_del AS rows FROM pg_stat_user_tables")
    return {row["relname"]: row["rows"] for row in rows}
