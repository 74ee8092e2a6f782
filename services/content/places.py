"""Places in an item: a field, in one of its locales or in all."""

from dataclasses import dataclass

from services.content import fields
from services.content.contents import LOCALISED, UNLOCALISED
from thmnayah.content.v1.types_pb2 import ContentType, Field


@dataclass(frozen=True)
class Place:
    """A field of an item."""

    field: str
    """`title`, `tags`; a custom one by its id: `fields.f1`."""
    locale: str = ""
    """ "" for all of them."""
    defined: Field | None = None
    """What the type says of a custom one."""


def find(kind: ContentType, path: str) -> Place | None:
    """What a path as of an update mask names, `title.ar` or `fields.synopsis`.

    Returns:
        None when items of the type have no such field, or it has no locales.
    """
    name, _, locale = path.partition(".")
    if name == "fields":
        name, _, locale = locale.partition(".")
        defined = fields.find(kind, name)
        if defined is None or (locale and not defined.localized):
            return None
        return Place(f"fields.{defined.id}", locale, defined)
    name = fields.snake(name)
    if name in LOCALISED or (name in UNLOCALISED and not locale):
        return Place(name, locale)
    return None
