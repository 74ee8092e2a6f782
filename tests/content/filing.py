"""What tests say to TaxonomyService."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from tests.conftest import Metadata, TaxonomyStub
from tests.content.items import SECONDS
from thmnayah.content.v1 import taxonomy_pb2
from thmnayah.content.v1.taxonomy_pb2 import Category, Locale, Tag


@dataclass(frozen=True)
class Filing:
    """Somebody's calls to TaxonomyService."""

    taxonomy: TaxonomyStub
    metadata: Metadata = field(default=(), repr=False)

    @property
    def _call(self) -> dict[str, Any]:
        return {"metadata": self.metadata, "timeout": SECONDS}

    async def locales(self) -> dict[str, Locale]:
        """All of them, by code."""
        answer = await self.taxonomy.ListLocales(taxonomy_pb2.ListLocalesRequest(), **self._call)
        return {locale.code: locale for locale in answer.locales}

    async def create_locale(self, code: str, **fields: Any) -> Locale:
        locale = Locale(**{"code": code, "name": {"en": code}, "direction": Locale.LTR, **fields})
        return await self.taxonomy.CreateLocale(taxonomy_pb2.CreateLocaleRequest(locale=locale), **self._call)

    async def update_locale(self, code: str, *, paths: Iterable[str] = (), **fields: Any) -> Locale:
        request = taxonomy_pb2.UpdateLocaleRequest(
            locale=Locale(code=code, **fields), update_mask=FieldMask(paths=paths)
        )
        return await self.taxonomy.UpdateLocale(request, **self._call)

    async def create(self, **fields: Any) -> Category:
        request = taxonomy_pb2.CreateCategoryRequest(category=Category(**fields))
        return await self.taxonomy.CreateCategory(request, **self._call)

    async def chain(self, word: str, length: int) -> list[Category]:
        """Categories, each in the one before, with ids that begin with a word."""
        made: list[Category] = []
        for number in range(length):
            parent = made[-1].id if made else ""
            made.append(await self.create(id=f"{word}-{number}", name={"en": f"N{number} {word}"}, parent_id=parent))
        return made

    async def get(self, category_id: str) -> Category:
        return await self.taxonomy.GetCategory(taxonomy_pb2.GetCategoryRequest(id=category_id), **self._call)

    async def page(self, **question: Any) -> tuple[list[Category], str]:
        """One page of categories, and the token of the next."""
        answer = await self.taxonomy.ListCategories(taxonomy_pb2.ListCategoriesRequest(**question), **self._call)
        return list(answer.categories), answer.next_page_token

    async def ids(self, parent_id: str, **question: Any) -> list[str]:
        """The ids of what is in a category, of all pages."""
        found, token = await self.page(parent_id=parent_id, **question)
        while token:
            more, token = await self.page(parent_id=parent_id, page_token=token, **question)
            found += more
        return [category.id for category in found]

    async def update(self, category_id: str, *, paths: Iterable[str] = (), **fields: Any) -> Category:
        request = taxonomy_pb2.UpdateCategoryRequest(
            category=Category(id=category_id, **fields), update_mask=FieldMask(paths=paths)
        )
        return await self.taxonomy.UpdateCategory(request, **self._call)

    async def move(self, category_id: str, parent_id: str, position: int | None = None) -> Category:
        request = taxonomy_pb2.MoveCategoryRequest(id=category_id, parent_id=parent_id, position=position)
        return await self.taxonomy.MoveCategory(request, **self._call)

    async def reorder(self, parent_id: str, *ids: str) -> list[Category]:
        request = taxonomy_pb2.ReorderCategoriesRequest(parent_id=parent_id, ids=ids)
        return list((await self.taxonomy.ReorderCategories(request, **self._call)).categories)

    async def delete(self, category_id: str, *, move_to: str = "", etag: str = "") -> Category:
        request = taxonomy_pb2.DeleteCategoryRequest(id=category_id, move_to=move_to, etag=etag)
        return await self.taxonomy.DeleteCategory(request, **self._call)

    async def tags(self, **question: Any) -> list[Tag]:
        """The first page of tags."""
        return list((await self.taxonomy.ListTags(taxonomy_pb2.ListTagsRequest(**question), **self._call)).tags)

    async def rename(self, tag: str, new_tag: str) -> taxonomy_pb2.RenameTagResponse:
        request = taxonomy_pb2.RenameTagRequest(tag=tag, new_tag=new_tag)
        return await self.taxonomy.RenameTag(request, **self._call)

    async def merge(self, tags: Iterable[str], into: str) -> taxonomy_pb2.MergeTagsResponse:
        request = taxonomy_pb2.MergeTagsRequest(tags=tags, into=into)
        return await self.taxonomy.MergeTags(request, **self._call)
