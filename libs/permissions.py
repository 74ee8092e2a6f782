"""Who may do what to what: roles, their grants, and the conditions on these. It reads and writes nothing.

A grant allows one permission on the items that meet every condition it has; grants add up. A permission that
some grant gives without a condition has no `Scope`, so whoever is not limited pays for no check.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from libs import contracts

READ_DRAFTS = "content.read_drafts"
CREATE, UPDATE, DELETE = "content.create", "content.update", "content.delete"
REVIEW, PUBLISH, COMMENT = "content.review", "content.publish", "content.comment"

# Those about single items: their grants may have conditions, and these ones' may name fields.
OF_ITEMS = frozenset({READ_DRAFTS, CREATE, UPDATE, DELETE, REVIEW, PUBLISH, COMMENT})
OF_FIELDS = frozenset({READ_DRAFTS, CREATE, UPDATE})

# Those of the contracts, and those that calls open to everybody signed in ask for to act for others.
PERMISSIONS = frozenset(rpc.access.permission for rpc in contracts.rpcs() if rpc.access.permission) | {
    "api_keys.manage",
    "content.moderate_comments",
    "sessions.manage",
}
ADMINISTRATOR = "administrator"
# What a role was called before.
OLD_NAMES = {"admin": ADMINISTRATOR}


@dataclass(frozen=True)
class Grant:
    """A permission, and what it is about. An empty condition holds for everything."""

    permission: str
    types: frozenset[str] = frozenset()
    locales: frozenset[str] = frozenset()
    """For an item in one of them. Of its texts, those in other locales are not there."""
    categories: frozenset[str] = frozenset()
    """For what is filed in one of them or below."""
    own: bool = False
    states: frozenset[str] = frozenset()
    """`DRAFT`, as in `Content.State`."""
    fields: frozenset[str] = frozenset()
    """`body`, or `fields.synopsis` for a custom one. Titles can be read whatever it says."""
    role: str = field(default="", compare=False)

    @property
    def limited(self) -> bool:
        """Whether there are items, or parts of them, that it does not hold for."""
        return bool(self.types or self.locales or self.categories or self.own or self.states or self.fields)

    def includes(self, other: "Grant") -> bool:
        """Whether it allows all that another does. Of a category's descendants it knows nothing."""
        return (
            self.permission == other.permission
            and (other.own or not self.own)
            and all(
                not ours or (theirs and theirs <= ours)
                for ours, theirs in (
                    (self.types, other.types),
                    (self.locales, other.locales),
                    (self.categories, other.categories),
                    (self.states, other.states),
                    (self.fields, other.fields),
                )
            )
        )

    def reaches(self, name: str, locale: str, locales: Collection[str] = ()) -> bool:
        """Whether it is about a field in a locale of an item that it holds for.

        Args:
            name: "" for no field in particular.
            locale: "" for what all locales share.
            locales: those that must be its own when what they share is to change.
        """
        if self.fields and name and name not in self.fields:
            return False
        return not self.locales or (locale in self.locales if locale else self.locales.issuperset(locales))


# What a caller holds: by permission; None where nothing limits it.
Held = Mapping[str, "Scope | None"]


@dataclass(frozen=True)
class Resource:
    """An item, as far as decisions look at it."""

    type: str = ""
    locales: frozenset[str] = frozenset()
    category_path: Sequence[str] = ()
    """Its category, and those above it where they are known."""
    created_by: str = ""
    state: str = "DRAFT"


@dataclass(frozen=True)
class Columns:
    """The SQL expressions that conditions are about, in a statement about items."""

    type: str
    category: str
    created_by: str
    state: str
    has_locale: str
    """Whether the item is in one of the locales of the array `{}`."""
    field: str = ""
    """The field that a row is about, as grants name it; "" where rows are whole items."""
    locale: str = ""
    """The locale that a row is about: its value is '' where that is all of them."""


@dataclass(frozen=True)
class Scope:
    """The grants of one permission that a caller has, all of them limited."""

    user_id: str = ""
    grants: tuple[Grant, ...] = ()

    def categories(self) -> set[str]:
        """Those that conditions name."""
        return set().union(*(grant.categories for grant in self.grants))

    def below(self, subtrees: Mapping[str, Collection[str]]) -> "Scope":
        """The same with each category standing for all that is below it too.

        Args:
            subtrees: for each of `categories` that there is, the ids of what it holds.
        """
        return replace(
            self,
            grants=tuple(
                replace(
                    grant,
                    categories=grant.categories.union(*(subtrees.get(each, ()) for each in grant.categories)),
                )
                for grant in self.grants
            ),
        )

    def held(self, resource: Resource) -> tuple[Grant, ...]:
        """The grants that hold for an item."""
        return tuple(grant for grant in self.grants if not unmet(grant, resource, self.user_id))

    def reading(self, name: str) -> "Scope":
        """The same without grants that do not let this field be read."""
        return replace(self, grants=tuple(grant for grant in self.grants if not grant.fields or name in grant.fields))

    def compile(self, columns: Columns, parameters: list[object], *, among: Collection[str] = ()) -> str:
        """The SQL condition that some grant holds for a row; its values are added to `parameters`.

        Args:
            among: an item must be in one of these locales that the grant is about; any, when there are none.
        """

        def given(value: object) -> str:
            parameters.append(sorted(value) if isinstance(value, frozenset) else value)
            return f"${len(parameters)}" + ("::text[]" if isinstance(value, frozenset) else "")

        alternatives = []
        for grant in self.grants:
            parts = []
            if grant.types:
                parts.append(f"{columns.type} = ANY({given(grant.types)})")
            if grant.categories:
                parts.append(f"{columns.category} = ANY({given(grant.categories)})")
            if grant.own:
                parts.append(f"{columns.created_by} = {given(self.user_id)}")
            if grant.states:
                parts.append(f"{columns.state} = ANY({given(grant.states)})")
            if grant.locales:
                wanted = grant.locales.intersection(among) if among else grant.locales
                parts.append(columns.has_locale.format(given(wanted)))
                if columns.locale:
                    parts.append(f"({columns.locale} = '' OR {columns.locale} = ANY({given(grant.locales)}))")
            if grant.fields and columns.field:
                parts.append(f"({columns.field} IN ('', 'title') OR {columns.field} = ANY({given(grant.fields)}))")
            alternatives.append(" AND ".join(parts) or "TRUE")
        return f"({' OR '.join(alternatives)})" if alternatives else "FALSE"


NOTHING = Scope()


def unmet(grant: Grant, resource: Resource, user_id: str) -> str:
    """The first condition of a grant that an item does not meet; "" when it meets them all."""
    if grant.types and resource.type not in grant.types:
        return "types"
    if grant.categories and grant.categories.isdisjoint(resource.category_path):
        return "categories"
    if grant.own and resource.created_by != user_id:
        return "own"
    if grant.states and resource.state not in grant.states:
        return "states"
    if grant.locales and grant.locales.isdisjoint(resource.locales):
        return "locales"
    return ""


def may_read(grants: Iterable[Grant], name: str, locale: str) -> bool:
    """Whether grants that hold for an item let a field of it be read in a locale, "" for what has none."""
    return any(grant.reaches("" if name == "title" else name, locale) for grant in grants)


def may_write(grants: Iterable[Grant], name: str, locale: str, locales: Collection[str]) -> bool:
    """Whether grants that hold for an item let a field of it be written.

    Args:
        name: "" for the item as it is, as when it is published.
        locale: "" for all that the item is in.
        locales: these.
    """
    return any(grant.reaches(name, locale, locales) for grant in grants)


def _all(*permissions: str, own: bool = False) -> tuple[Grant, ...]:
    return tuple(Grant(each, own=own and each in OF_ITEMS) for each in permissions)


_FILE = ("content.edit_categories", "content.edit_tags", "content_types.read")

# The roles that are there from the start, and what each grants.
BUILT_IN: dict[str, tuple[Grant, ...]] = {
    "reader": (),
    "author": (Grant(CREATE), *_all(READ_DRAFTS, UPDATE, COMMENT, "content_types.read", own=True)),
    "reviewer": _all(READ_DRAFTS, REVIEW, COMMENT, "content_types.read"),
    "publisher": _all(READ_DRAFTS, PUBLISH, COMMENT, "content_types.read"),
    "editor": _all(*sorted(OF_ITEMS), *_FILE),
    ADMINISTRATOR: _all(*sorted(PERMISSIONS)),
}


def hold(user_id: str, roles: Iterable[str], custom: Mapping[str, tuple[Grant, ...]]) -> Held:
    """What a user with some roles may do; a role that is not known grants nothing.

    Args:
        custom: the grants of the roles that are not built in.
    """
    held: dict[str, Scope | None] = {}
    for role in roles:
        name = OLD_NAMES.get(role, role)
        for grant in BUILT_IN[name] if name in BUILT_IN else custom.get(name, ()):
            before = held.get(grant.permission, NOTHING)
            if not grant.limited or before is None:
                held[grant.permission] = None
            else:
                held[grant.permission] = Scope(user_id, (*before.grants, replace(grant, role=name)))
    return held
