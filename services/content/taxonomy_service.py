"""TaxonomyService: each RPC's transaction, its function and its event."""

from collections.abc import Callable, MutableMapping, Sequence

from google.protobuf.message import Message

from libs import etags, outbox, rpc
from libs.db import Pool, connection, transaction
from libs.errors import Conflict
from libs.identity import caller
from libs.rpc import Context
from libs.text import nfc
from services.content import access, caches, categories, filing, locales, tags
from services.content.caches import Caches
from services.content.locales import Locales
from services.content.service import sees_drafts
from thmnayah.content.v1 import taxonomy_pb2, taxonomy_pb2_grpc
from thmnayah.content.v1.content_pb2 import Content
from thmnayah.content.v1.taxonomy_pb2 import Category, CategoryMoved, Locale


class TaxonomyService(taxonomy_pb2_grpc.TaxonomyServiceServicer):
    """The servicer of thmnayah.content.v1.TaxonomyService, where each RPC is described."""

    def __init__(self, db: Pool, caches: Caches, locales: Locales) -> None:
        self.db = db
        self.caches = caches
        self.locales = locales

    async def ListLocales(
        self, request: taxonomy_pb2.ListLocalesRequest, context: Context
    ) -> taxonomy_pb2.ListLocalesResponse:
        return await self.locales.all()

    async def GetLocale(self, request: taxonomy_pb2.GetLocaleRequest, context: Context) -> Locale:
        return await etags.tagged(locales.find(await self.locales.all(), request.code), context)

    async def CreateLocale(self, request: taxonomy_pb2.CreateLocaleRequest, context: Context) -> Locale:
        _compose(request, request.locale.name)
        async with transaction(self.db) as conn:
            locale = await locales.create(conn, request.locale)
            await outbox.add(conn, taxonomy_pb2.LocaleCreated(locale=locale), about=locale.code)
        await self.caches.locale_changed(locale.code)
        return await etags.tagged(locale, context)

    async def UpdateLocale(self, request: taxonomy_pb2.UpdateLocaleRequest, context: Context) -> Locale:
        _compose(request, request.locale.name)
        async with transaction(self.db) as conn:
            locale = await locales.update(
                conn, request.locale, paths=request.update_mask.paths, etag=etags.given(request.locale.etag)
            )
            if locale is not None:
                await outbox.add(conn, taxonomy_pb2.LocaleUpdated(locale=locale), about=locale.code)
        await self.caches.locale_changed(request.locale.code)
        return await etags.tagged(locale or locales.find(await self.locales.all(), request.locale.code), context)

    async def ListCategories(
        self, request: taxonomy_pb2.ListCategoriesRequest, context: Context
    ) -> taxonomy_pb2.ListCategoriesResponse:
        async def read() -> taxonomy_pb2.ListCategoriesResponse:
            async with connection(self.db) as conn:
                return await categories.list_page(
                    conn,
                    parent_id=nfc(request.parent_id),
                    all_below=request.all_below,
                    page_size=request.page_size,
                    page_token=request.page_token,
                )

        return await self.caches.categories.get(caches.key(request), read)

    async def GetCategory(self, request: taxonomy_pb2.GetCategoryRequest, context: Context) -> Category:
        async with connection(self.db) as conn:
            return await etags.tagged(await categories.get(conn, nfc(request.id)), context)

    async def CreateCategory(self, request: taxonomy_pb2.CreateCategoryRequest, context: Context) -> Category:
        _compose_category(request, request.category)
        async with transaction(self.db) as conn:
            await categories.lock(conn)
            category = await categories.create(conn, request.category)
            await outbox.add(conn, taxonomy_pb2.CategoryCreated(category=category), about=category.id)
        await self.caches.tree_changed(category.id)
        return await etags.tagged(category, context)

    async def UpdateCategory(self, request: taxonomy_pb2.UpdateCategoryRequest, context: Context) -> Category:
        _compose_category(request, request.category)
        async with transaction(self.db) as conn:
            await categories.lock(conn)
            category = await categories.update(
                conn, request.category, paths=request.update_mask.paths, etag=etags.given(request.category.etag)
            )
            if category is None:
                category = await categories.get(conn, request.category.id)
            else:
                await outbox.add(conn, taxonomy_pb2.CategoryUpdated(category=category), about=category.id)
        await self.caches.tree_changed(category.id)
        return await etags.tagged(category, context)

    async def MoveCategory(self, request: taxonomy_pb2.MoveCategoryRequest, context: Context) -> Category:
        category_id = nfc(request.id)
        async with transaction(self.db) as conn:
            await categories.lock(conn)
            moved = await categories.move(
                conn,
                category_id,
                parent_id=nfc(request.parent_id),
                position=request.position if request.HasField("position") else None,
            )
            await outbox.add_all(conn, _moves(moved))
            category = await categories.get(conn, category_id)
        await self.caches.tree_changed(category_id)
        return await etags.tagged(category, context)

    async def ReorderCategories(
        self, request: taxonomy_pb2.ReorderCategoriesRequest, context: Context
    ) -> taxonomy_pb2.ReorderCategoriesResponse:
        async with transaction(self.db) as conn:
            await categories.lock(conn)
            named, moved = await categories.reorder(conn, nfc(request.parent_id), list(map(nfc, request.ids)))
            await outbox.add_all(conn, _moves(moved))
        await self.caches.tree_changed(request.parent_id)
        return taxonomy_pb2.ReorderCategoriesResponse(categories=named)

    async def DeleteCategory(self, request: taxonomy_pb2.DeleteCategoryRequest, context: Context) -> Category:
        category_id, move_to, etag = nfc(request.id), nfc(request.move_to), etags.given(request.etag)
        if move_to:
            async with connection(self.db) as conn:
                await categories.check_emptying(conn, category_id, move_to=move_to, etag=etag)
            moved_items, complete = await self._refile(
                "category = ANY($1)", [category_id], lambda content: _file(content, category_id, move_to), into=move_to
            )
            if not complete:
                raise Conflict(
                    "CATEGORY_NOT_EMPTIED",
                    f"{moved_items} items were moved and more are left; call again",
                    f"نُقل {moved_items} من العناصر وبقي غيرها؛ أعد الطلب",
                )
        async with transaction(self.db) as conn:
            await categories.lock(conn)
            category, moved = await categories.delete(conn, category_id, move_to=move_to, etag=etag)
            gone = taxonomy_pb2.CategoryDeleted(category=category)
            await outbox.add_all(conn, [*_moves(moved), (gone, category_id)])
        await self.caches.tree_changed(category_id)
        return category

    async def ListTags(self, request: taxonomy_pb2.ListTagsRequest, context: Context) -> taxonomy_pb2.ListTagsResponse:
        drafts = sees_drafts(request.view)

        async def read() -> taxonomy_pb2.ListTagsResponse:
            async with connection(self.db) as conn:
                return await tags.list_page(
                    conn,
                    drafts=drafts,
                    prefix=request.prefix,
                    order_by=request.order_by,
                    page_size=request.page_size,
                    page_token=request.page_token,
                    scope=await access.scope(conn) if drafts else None,
                )

        return await read() if drafts else await self.caches.tags.get(caches.key(request), read)

    async def RenameTag(
        self, request: taxonomy_pb2.RenameTagRequest, context: Context
    ) -> taxonomy_pb2.RenameTagResponse:
        tag, new_tag = nfc(request.tag), nfc(request.new_tag)
        changed, replaced = await self._replace([tag], new_tag, may_exist=False)
        return taxonomy_pb2.RenameTagResponse(changed=changed, complete=replaced)

    async def MergeTags(
        self, request: taxonomy_pb2.MergeTagsRequest, context: Context
    ) -> taxonomy_pb2.MergeTagsResponse:
        into = nfc(request.into)
        merged = sorted(set(map(nfc, request.tags)) - {into})
        changed, replaced = await self._replace(merged, into, may_exist=True)
        return taxonomy_pb2.MergeTagsResponse(changed=changed, complete=replaced)

    async def _replace(self, old: Sequence[str], new_tag: str, *, may_exist: bool) -> tuple[int, bool]:
        """How many items have the new tag in place of an old one, and whether none has an old one any more."""
        async with transaction(self.db) as conn:
            await tags.begin(conn, old, new_tag, may_exist=may_exist)
        changed, complete = await self._refile("tags && $1", old, tags.replacing(old, new_tag))
        if complete:
            async with transaction(self.db) as conn:
                replaced = await tags.finish(conn, old, new_tag)
                event: Message = taxonomy_pb2.TagsMerged(tags=replaced, into=new_tag)
                if not may_exist:
                    event = taxonomy_pb2.TagRenamed(tag=old[0], new_tag=new_tag)
                if replaced:
                    await outbox.add(conn, event, about=new_tag)
        return changed, complete

    async def _refile(
        self, condition: filing.Condition, values: Sequence[str], edit: Callable[[Content], None], *, into: str = ""
    ) -> tuple[int, bool]:
        """How many of the items that a condition holds for were edited, and whether those were all."""
        changed = 0
        while changed < filing.LIMIT:
            async with transaction(self.db) as conn:
                await categories.ensure(conn, into)  # somebody may have deleted it meanwhile
                refiled = await filing.refile(conn, condition, values, edit, author=caller.get().user_id)
            for content_id in refiled.published:
                await self.caches.item_changed(content_id)
            changed += refiled.items
            if refiled.items < filing.CHUNK:
                return changed, True
        return changed, False


def _moves(moved: Sequence[Category]) -> list[tuple[Message, str]]:
    return [(CategoryMoved(category=category), category.id) for category in moved]


def _file(content: Content, category_id: str, move_to: str) -> None:
    if content.category == category_id:
        content.category = move_to


def _compose(request: Message, *texts: MutableMapping[str, str]) -> None:
    """Put texts into the form they are stored in, in which they may be longer than the contract allows."""
    for each in texts:
        for locale, value in list(each.items()):
            each[locale] = nfc(value)
    rpc.validate(request)


def _compose_category(request: Message, category: Category) -> None:
    category.id, category.parent_id = nfc(category.id), nfc(category.parent_id)
    _compose(request, category.name, category.slug)
