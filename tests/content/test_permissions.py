"""Custom roles and their conditions on drafts: what they hide on each way of reading, and what they refuse."""

import itertools
import secrets
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from libs import permissions
from libs.permissions import NOTHING, READ_DRAFTS, Resource, hold, may_read
from libs.roles import grant
from tests.conftest import ADMIN_PASSWORD, AuthStub, Metadata, bearer, eventually
from tests.content.filing import Filing
from tests.content.items import SECONDS, Caller, refused
from thmnayah.auth.v1 import roles_pb2
from thmnayah.auth.v1.auth_pb2 import CreateUserRequest, GetMeRequest, LoginRequest
from thmnayah.auth.v1.roles_pb2 import Grant, Role
from thmnayah.auth.v1.roles_pb2_grpc import RoleServiceStub
from thmnayah.content.v1 import content_pb2
from thmnayah.content.v1.blocks_pb2 import BlockEdit, EditBlocksRequest
from thmnayah.content.v1.blocks_pb2_grpc import BlockServiceStub
from thmnayah.content.v1.comments_pb2 import Comment, CreateCommentRequest, GetCommentRequest, ListCommentsRequest
from thmnayah.content.v1.comments_pb2_grpc import CommentServiceStub
from thmnayah.content.v1.content_pb2 import DRAFT, PUBLISHED, Content
from thmnayah.content.v1.references_pb2 import ListReferencesRequest
from thmnayah.content.v1.references_pb2_grpc import ReferenceServiceStub
from thmnayah.content.v1.revisions_pb2 import (
    DiffRevisionsRequest,
    GetRevisionRequest,
    ListRevisionsRequest,
    RestoreRevisionRequest,
)
from thmnayah.content.v1.revisions_pb2_grpc import RevisionServiceStub
from thmnayah.content.v1.slugs_pb2 import GetContentBySlugRequest, ListOldSlugsRequest
from thmnayah.content.v1.slugs_pb2_grpc import SlugServiceStub
from thmnayah.content.v1.taxonomy_pb2 import ListTagsRequest
from thmnayah.content.v1.taxonomy_pb2_grpc import TaxonomyServiceStub
from thmnayah.content.v1.values_pb2 import Value

NOT_FOUND, DENIED = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED
READ = {"permission": READ_DRAFTS}


@dataclass(frozen=True, repr=False)
class Someone:
    """A user with a role of their own, whose calls carry a token that knows of the role's last change."""

    channel: grpc.aio.Channel
    auth: AuthStub
    admin: Metadata
    role: str
    email: str

    @property
    def roles(self) -> Any:
        return RoleServiceStub(self.channel)

    async def may(self, *grants: dict[str, Any]) -> Caller:
        """Their calls, once the role grants this and nothing else."""
        role = Role(id=self.role, grants=[Grant(**each) for each in grants])
        request = roles_pb2.UpdateRoleRequest(role=role)
        request.update_mask.paths.append("grants")
        await self.roles.UpdateRole(request, metadata=self.admin, timeout=SECONDS)
        return await self.signed_in()

    async def signed_in(self) -> Caller:
        tokens = await self.auth.Login(LoginRequest(email=self.email, password=ADMIN_PASSWORD), timeout=SECONDS)
        return Caller(self.channel, bearer(tokens.access_token))

    async def id(self) -> str:
        return str((await self.auth.GetMe(GetMeRequest(), metadata=(await self.signed_in()).metadata)).id)


@pytest.fixture(scope="module")
async def someone(edge: grpc.aio.Channel, auth: AuthStub, admin_token: str) -> Someone:
    return await _someone(edge, auth, bearer(admin_token))


async def _someone(edge: grpc.aio.Channel, auth: AuthStub, admin: Metadata) -> Someone:
    role, email = f"role-{secrets.token_hex(6)}", f"{secrets.token_hex(6)}@example.com"
    made = Someone(edge, auth, admin, role, email)
    await made.roles.CreateRole(roles_pb2.CreateRoleRequest(role=Role(id=role)), metadata=admin, timeout=SECONDS)
    await auth.CreateUser(
        CreateUserRequest(email=email, password=ADMIN_PASSWORD, roles=[role]), metadata=admin, timeout=SECONDS
    )
    return made


# Everything that tells of drafts, asked by one caller: what it tells, item by item.


def text(said: str) -> Value:
    return Value(localized=Value.Localized(values={"en": Value(text=said + " en"), "ar": Value(text=said + " ar")}))


@dataclass(frozen=True, repr=False)
class World:
    """Items of many kinds under one word, all of which refer to one person, each with a comment on its body."""

    word: str
    person: str
    items: dict[str, Content]
    """As an editor sees them."""
    comments: dict[str, str]


TYPES, STATES = ("article", "page"), ("DRAFT", "IN_REVIEW", "PUBLISHED", "ARCHIVED")


@pytest.fixture(scope="module")
async def world(edge: grpc.aio.Channel, editing: Caller, reviewing: Caller, filing: Filing, someone: Someone) -> World:
    word = "w" + secrets.token_hex(6)
    await filing.create(id=f"{word}-top", name={"en": f"{word} top"})
    await filing.create(id=f"{word}-below", name={"en": f"{word} below"}, parent_id=f"{word}-top")
    await filing.create(id=f"{word}-other", name={"en": f"{word} other"})
    person = await editing.create(type="person", title={"en": word, "ar": word})
    own = await someone.may({"permission": "content.create"})
    items, said = {}, {}
    kinds = itertools.product(TYPES, ("top", "below", "other", ""), ({"en"}, {"ar"}, {"en", "ar"}))
    for number, (kind, category, locales) in enumerate(kinds):
        by, state = (own, editing, reviewing)[number % 3], STATES[number % len(STATES)]
        value = Value(list=Value.List(values=[Value(reference=person.id)]))
        made = await by.create(
            type=kind,
            title={each: f"{word} {number} {each}" for each in locales},
            body={each: f"body {number} {each}" for each in locales},
            description={each: f"description {number} {each}" for each in locales},
            category=f"{word}-{category}" if category else "",
            tags=[f"{word}-{number}"],
            external_id=f"{word}-{number}",
            fields={"authors": value} if kind == "article" else {"subtitle": text(f"{number}")},
        )
        if state == "IN_REVIEW":
            await editing.submit(made.id)
        elif state == "PUBLISHED":
            await _publish(editing, made.id, person.id)
        elif state == "ARCHIVED":
            await editing.archive(made.id)
        about = min(locales)
        comment = Comment(content_id=made.id, text="Well said", field=f"body.{about}")
        answer = await CommentServiceStub(edge).CreateComment(
            CreateCommentRequest(comment=comment), metadata=editing.metadata, timeout=SECONDS
        )
        items[made.id], said[answer.id] = await editing.get(made.id), made.id
    return World(word, person.id, items, said)


async def _publish(editing: Caller, content_id: str, person: str) -> None:
    item = await editing.get(person)
    if not item.HasField("publish_time"):
        await editing.publish(person)
    await editing.publish(content_id)


CONDITIONS = st.fixed_dictionaries(
    {},
    optional={
        "types": st.lists(st.sampled_from((*TYPES, "person")), max_size=2, unique=True),
        "locales": st.lists(st.sampled_from(("en", "ar")), max_size=2, unique=True),
        "categories": st.lists(st.sampled_from(("top", "below", "other")), max_size=2, unique=True),
        "own": st.booleans(),
        "states": st.lists(st.sampled_from(STATES), max_size=3, unique=True),
        "fields": st.lists(
            st.sampled_from(("slug", "body", "tags", "category", "fields.authors", "fields.subtitle")),
            max_size=4,
            unique=True,
        ),
    },
    # Most of them empty, so that something is left to see.
).map(lambda one: dict(list(one.items())[:3]))


def expected(world: World, user_id: str, grants: list[dict[str, Any]], item: Content) -> Content | None:
    """What a caller with grants of reading must be told of an item, decided without SQL; None for nothing."""
    said = tuple(grant(Grant(permission=READ_DRAFTS, **each)) for each in grants)
    scope = hold(user_id, ["theirs"], {"theirs": said}).get(READ_DRAFTS, NOTHING)
    if scope is None:
        return item
    path = {f"{world.word}-below": [f"{world.word}-below", f"{world.word}-top"]}.get(item.category, [item.category])
    held = scope.held(
        Resource(
            type=item.type,
            locales=frozenset(item.locales),
            category_path=path,
            created_by=item.created_by,
            state=Content.State.Name(item.state),
        )
    )
    if not held:
        return None
    shown = Content()
    shown.CopyFrom(item)
    for name in ("slug", "title", "body", "description"):
        texts = getattr(shown, name)
        for locale in [each for each in texts if not may_read(held, name, each)]:
            del texts[locale]
    for name in ("category", "tags", "external_id"):
        if not may_read(held, name, ""):
            shown.ClearField(name)  # type: ignore[arg-type]  # one of its names
    _leave_fields(shown, held)
    for locale in [each for each in shown.locales if not may_read(held, "", locale=each)]:
        del shown.locales[locale]
    return shown


def _leave_fields(shown: Content, held: tuple[permissions.Grant, ...]) -> None:
    """Take out the custom fields that may not be read."""
    for name in list(shown.fields):
        values = shown.fields[name].localized.values
        for locale in [each for each in values if not may_read(held, f"fields.{name}", each)]:
            del values[locale]
        if not values if shown.fields[name].HasField("localized") else not may_read(held, f"fields.{name}", ""):
            del shown.fields[name]


def bare(content: Content) -> Content:
    """An item without what is not compared: where its translations come from."""
    plain = Content()
    plain.CopyFrom(content)
    plain.ClearField("translations")
    return plain


@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],  # each example is many calls
)
@given(drawn=st.lists(CONDITIONS, max_size=2), looked_at=st.sets(st.integers(0, 23), min_size=4, max_size=8))
async def test_every_way_of_reading_tells_what_the_decision_lets_it_and_all_of_that(
    edge: grpc.aio.Channel, someone: Someone, world: World, drawn: list[dict[str, Any]], looked_at: set[int]
) -> None:
    grants = [{**each, "categories": [f"{world.word}-{name}" for name in each.get("categories", ())]} for each in drawn]
    they = await someone.may(*({**READ, **each} for each in grants))
    user_id = await someone.id()
    told = {each.id: expected(world, user_id, grants, each) for each in world.items.values()}
    visible = {each: bare(item) for each, item in told.items() if item is not None}
    ours = f'external_id:* AND create_time >= "{min(each.create_time.ToJsonString() for each in world.items.values())}"'
    limited = any(each.get("fields") for each in grants)
    call: dict[str, Any] = {"metadata": they.metadata, "timeout": SECONDS}

    # Lists, page by page.
    if grants:
        ask = {} if limited else {"filter": ours}
        listed = {each.id: bare(each) for each in await they.walk(view=DRAFT, page_size=7, **ask)}
        assert {each: item for each, item in listed.items() if each in world.items} == visible
        tags = await _tags(edge, they, world.word)
        assert tags == sorted(tag for item in visible.values() for tag in item.tags)
    else:
        assert (await refused(they.page(view=DRAFT))).code == DENIED
    for content_id, item in world.items.items():
        wanted = visible.get(content_id)
        number = item.tags[0].removeprefix(f"{world.word}-")
        if int(number) not in looked_at:
            continue
        revision = GetRevisionRequest(id=content_id, number=1)
        history = RevisionServiceStub(edge)
        comments = CommentServiceStub(edge)
        if wanted is None:
            code = NOT_FOUND if grants else DENIED
            for answer in (
                they.get(content_id, DRAFT),
                they.get(content_id, DRAFT, expand=["authors"]),
                history.GetRevision(revision, **call),
                history.ListRevisions(ListRevisionsRequest(id=content_id), **call),
                history.DiffRevisions(DiffRevisionsRequest(id=content_id), **call),
                comments.ListComments(ListCommentsRequest(content_id=content_id), **call),
                SlugServiceStub(edge).ListOldSlugs(ListOldSlugsRequest(id=content_id), **call),
            ):
                assert (await refused(answer)).code == code
        else:
            assert bare(await they.get(content_id, DRAFT)) == wanted
            expanded = await they.get(content_id, DRAFT, expand=["authors"])
            sees_person = expected(world, user_id, grants, await _person(world, someone)) is not None
            assert len(expanded.expanded) == (sees_person and "authors" in wanted.fields)
            kept = (await history.GetRevision(revision, **call)).content
            for name in ("title", "body", "description"):
                assert dict(getattr(kept, name)) == dict(getattr(wanted, name)), name
            assert (list(kept.tags), kept.category) == (list(wanted.tags), wanted.category)
            assert kept.fields.keys() == wanted.fields.keys()
            changes = (await history.DiffRevisions(DiffRevisionsRequest(id=content_id), **call)).changes
            assert {each.locale for each in changes if each.field == "body"} == set(wanted.body)
        for locale, slug in item.slug.items():
            request = GetContentBySlugRequest(type=item.type, slug=slug, locale=locale, view=DRAFT)
            asked = SlugServiceStub(edge).GetContentBySlug(request, **call)
            if wanted is not None and locale in wanted.slug:
                assert (await asked).id == content_id
            else:
                assert (await refused(asked)).code == (NOT_FOUND if grants else DENIED)
        (comment_id,) = [each for each, about in world.comments.items() if about == content_id]
        comment = comments.GetComment(GetCommentRequest(content_id=content_id, id=comment_id), **call)
        if wanted is not None and min(item.body) in wanted.body:
            assert (await comment).content_id == content_id
        else:
            assert (await refused(comment)).code == (NOT_FOUND if grants else DENIED)


async def _person(world: World, someone: Someone) -> Content:
    """The one that all refer to, as an administrator sees it."""
    return await Caller(someone.channel, someone.admin).get(world.person)


async def _tags(edge: grpc.aio.Channel, they: Caller, prefix: str) -> list[str]:
    request = ListTagsRequest(prefix=prefix, view=DRAFT, page_size=200)
    answer = await TaxonomyServiceStub(edge).ListTags(request, metadata=they.metadata, timeout=SECONDS)
    return sorted(each.name for each in answer.tags)


# What is refused.


async def test_who_may_read_but_not_change_is_told_what_is_missing(someone: Someone, editing: Caller) -> None:
    item = await editing.create(title={"en": "T", "ar": "T"})
    they = await someone.may(READ, {"permission": "content.update", "types": ["page"]})

    for call in (they.update(item.id, title={"en": "Other"}), they.submit(item.id)):
        told = await refused(call)
        assert (told.code, told.metadata) == (DENIED, {"permission": "content.update"})
    assert (await refused(they.publish(item.id))).metadata == {"permission": "content.publish"}


async def test_who_may_change_but_not_read_does_not_learn_that_there_is_an_item(
    someone: Someone, editing: Caller
) -> None:
    item = await editing.create()
    they = await someone.may(
        *({"permission": f"content.{each}"} for each in ("update", "publish", "delete", "review", "comment"))
    )
    nobody = "0190b0a0-0000-7000-8000-000000000000"

    for content_id in (item.id, nobody):
        for call in (
            they.update(content_id, title={"en": "Other"}, etag='"7"'),
            they.publish(content_id),
            they.publish(content_id, references=content_pb2.PublishContentRequest.BOTH),
            they.delete(content_id),
            they.approve(content_id),
            they.archive(content_id),
            they.undelete(content_id),
        ):
            told = await refused(call)
            assert (told.code, told.reason) == (NOT_FOUND, "CONTENT_NOT_FOUND")


@pytest.mark.parametrize(
    ("fields", "paths", "wrong"),
    [
        ({"body": {"en": "b"}}, (), "body.en"),
        ({"body": {"en": "before"}}, (), "body.en"),
        ({"body": {"en": "b"}}, ["body.en"], "body.en"),
        ({"description": {"en": "d"}, "tags": ["x"]}, (), "tags"),
        ({}, ["externalId"], "externalId"),
        ({}, ["*"], "slug"),
        ({}, ["fields"], "fields"),
        (
            {"fields": {"subtitle": Value(localized=Value.Localized(values={"en": Value(text="s")}))}},
            (),
            "fields.subtitle.en",
        ),
    ],
)
async def test_a_field_that_may_not_be_written_is_refused_by_name(
    someone: Someone, editing: Caller, fields: dict[str, Any], paths: list[str], wrong: str
) -> None:
    item = await editing.create(body={"en": "before"}, title={"en": "T", "ar": "T"})
    they = await someone.may(READ, {"permission": "content.update", "fields": ["title", "description"]})

    told = await refused(they.update(item.id, paths=paths, **fields))

    assert told.code == DENIED
    assert f"content.{wrong}" in told.violations or (wrong == "slug" and told.violations), told.violations
    assert (await they.update(item.id, description={"en": "Mine"})).description["en"] == "Mine"
    assert (await editing.get(item.id, DRAFT)).body == {"en": "before"}


async def test_a_translator_writes_their_locale_alone(someone: Someone, editing: Caller) -> None:
    item = await editing.create(title={"en": "Title", "ar": "عنوان"}, body={"en": "Text", "ar": "نص"}, tags=["t"])
    they = await someone.may(
        *({"permission": each, "locales": ["ar"]} for each in (READ_DRAFTS, "content.update", "content.publish"))
    )

    assert (await they.get(item.id, DRAFT)).title == {"ar": "عنوان"}
    changed = await they.update(item.id, body={"ar": "نص جديد"})
    assert changed.body == {"ar": "نص جديد"}
    for call in (
        they.update(item.id, body={"en": "x"}),
        they.update(item.id, paths=["body"], body={"ar": "x"}),
        they.update(item.id, tags=["x"]),
        they.publish(item.id),
        they.publish(item.id, "en"),
    ):
        assert (await refused(call)).code == DENIED
    assert (await they.publish(item.id, "ar")).title == {"ar": "عنوان"}
    assert (await editing.get(item.id, DRAFT)).body["en"] == "Text"
    assert (await editing.get(item.id, PUBLISHED)).locales.keys() == {"ar"}


async def test_an_item_is_not_filed_where_its_author_could_not_change_it(
    someone: Someone, filing: Filing, word: str
) -> None:
    top, below, other = (f"{word}-{each}" for each in ("top", "below", "other"))
    await filing.create(id=top, name={"en": top})
    await filing.create(id=below, name={"en": below}, parent_id=top)
    await filing.create(id=other, name={"en": other})
    they = await someone.may(
        *({"permission": each, "categories": [top]} for each in (READ_DRAFTS, "content.create", "content.update"))
    )

    item = await they.create(category=below)

    assert (await they.update(item.id, category=top)).category == top
    assert (await refused(they.update(item.id, category=other))).code == DENIED
    assert (await refused(they.create(category=other))).code == DENIED
    assert (await refused(they.create())).code == DENIED


async def test_a_revision_comes_back_only_where_its_fields_may_be_written(someone: Someone, editing: Caller) -> None:
    item = await editing.create(body={"en": "One"})
    await editing.update(item.id, body={"en": "Two"})
    they = await someone.may(READ, {"permission": "content.update", "fields": ["title"]})
    history = RevisionServiceStub(someone.channel)

    for paths in (["body.en"], []):
        request = RestoreRevisionRequest(id=item.id, number=1, paths=paths)
        told = await refused(history.RestoreRevision(request, metadata=they.metadata, timeout=SECONDS))
        assert told.code == DENIED
    edit = EditBlocksRequest(id=item.id, field="story", locale="en", edits=[BlockEdit(delete="x")])
    told = await refused(BlockServiceStub(someone.channel).EditBlocks(edit, metadata=they.metadata, timeout=SECONDS))
    assert told.code == DENIED


async def test_a_filter_does_not_ask_for_what_may_not_be_read(someone: Someone) -> None:
    they = await someone.may({**READ, "fields": ["body"]})

    for filter in ('tags:"x"', 'category = "x"', 'category_path:"x"', 'external_id = "x"', "stale:en"):
        assert (await refused(they.page(view=DRAFT, filter=filter))).violations.keys() == {"filter"}


async def test_conditions_change_nothing_of_what_is_published(
    someone: Someone, editing: Caller, anyone: Caller
) -> None:
    item = await editing.create(body={"en": "Body"})
    await editing.publish(item.id)
    they = await someone.may({**READ, "types": ["page"], "fields": ["title"]})

    assert await they.get(item.id) == await they.get(item.id, PUBLISHED) == await anyone.get(item.id)
    assert (await refused(they.get(item.id, DRAFT))).code == NOT_FOUND
    told = await refused(they.update(item.id, title={"en": "x"}))
    assert told.code == DENIED  # everybody knows that there is one


async def test_what_is_referred_to_by_hidden_drafts_or_fields_is_not_told(someone: Someone, editing: Caller) -> None:
    person = await editing.create(type="person", title={"en": "P"})
    value = Value(list=Value.List(values=[Value(reference=person.id)]))
    article = await editing.create(fields={"authors": value})
    stub = ReferenceServiceStub(someone.channel)
    request = ListReferencesRequest(id=person.id)

    async def found(*grants: dict[str, Any]) -> list[str]:
        they = await someone.may(*grants)
        answer = await stub.ListReferences(request, metadata=they.metadata, timeout=SECONDS)
        return [each.content_id for each in answer.references]

    assert await found({**READ, "fields": ["fields.authors"]}) == [article.id]
    assert await found({**READ, "fields": ["body"]}) == []
    assert await found({**READ, "types": ["person"]}) == []
    they = await someone.may({**READ, "types": ["article"]})
    assert (await refused(stub.ListReferences(request, metadata=they.metadata, timeout=SECONDS))).code == NOT_FOUND


async def test_a_role_that_loses_a_permission_loses_it_for_tokens_that_are_out(
    someone: Someone, editing: Caller
) -> None:
    """R-AZ-2: at once for a token that knows of the change, within 5 s for one that does not."""
    for _ in range(20):
        before = await someone.may(READ)
        assert await before.page(view=DRAFT)
        after = await someone.may({"permission": "content.comment"})
        secret = await editing.create(title={"en": f"Secret {secrets.token_hex(6)}"})

        assert (await refused(after.get(secret.id, DRAFT))).code == DENIED

    async def old_token() -> grpc.StatusCode:
        try:
            await before.get(secret.id, DRAFT)
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    assert await eventually(old_token, lambda code: code == DENIED, seconds=5) == DENIED
