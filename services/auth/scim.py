"""SCIM's JSON, filters and patches (RFC 7643, RFC 7644): what scim2-models reads and writes, as it is here."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

from google.api.httpbody_pb2 import HttpBody
from pydantic import AfterValidator, ValidationError
from scim2_models import (
    URN,
    AuthenticationScheme,
    Bulk,
    ChangePassword,
    ComplexAttribute,
    Context,
    ETag,
    Filter,
    Group,
    GroupMembership,
    ListResponse,
    Meta,
    Mutability,
    Patch,
    PatchOp,
    PatchOperation,
    Required,
    Resource,
    ResponseParameters,
    SCIMException,
    ScimFilter,
    ScimPolicy,
    ScimProvider,
    ServiceProviderConfig,
    Sort,
    Uniqueness,
)
from scim2_models.path import CompareOperator, Comparison, FilterVisitor, LogicalExpr, LogicalOperator

from libs import text
from libs.errors import AlreadyExists, InvalidArgument

BASE = "/scim/v2"
MEDIA_TYPE = "application/scim+json"
DEFAULT_PAGE, LARGEST_PAGE = 100, 200
MOST_OPERATIONS = 100

# As Okta and Entra ID send it: attributes nobody knows, filters for what is not there yet, and values to remove.
_POLICY = ScimPolicy(
    unknown=ScimPolicy.Unknown.ignore,
    remove_value_as_filter=ScimPolicy.RemoveValue.apply,
    unmatched_path_filter=ScimPolicy.UnmatchedPathFilter.create,
)
_UUID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ONE_MEMBER = re.compile(rf'members\[\s*value\s+eq\s+"{_UUID.pattern}"\s*\]')
_UNFIT = re.compile("[\x00-\x1f\x7f\u202a-\u202e\u2066-\u2069]")


def fit(value: str, characters: int) -> str:
    """A text as it is stored: NFC. Raises: ValueError when it is too long or holds what people do not see."""
    value = text.nfc(value)
    if len(value) > characters:
        raise ValueError(f"must have at most {characters} characters")
    if _UNFIT.search(value):
        raise ValueError("must not hold control characters or direction marks")
    return value


def _fit(characters: int) -> AfterValidator:
    return AfterValidator(lambda value: None if value is None else fit(value, characters))


class Name(ComplexAttribute):
    """A person's name in parts."""

    formatted: Annotated[str | None, _fit(200)] = None
    family_name: Annotated[str | None, _fit(200)] = None
    given_name: Annotated[str | None, _fit(200)] = None


class Email(ComplexAttribute):
    """An address of a person."""

    value: Annotated[str | None, _fit(254)] = None
    type: Annotated[str | None, _fit(40)] = None
    primary: bool | None = None


class User(Resource[Any]):
    """A person, as far as it is kept here. Other attributes are let pass and forgotten."""

    __schema__ = URN("urn:ietf:params:scim:schemas:core:2.0:User")

    external_id: Annotated[str | None, _fit(200)] = None
    user_name: Annotated[str | None, Required.true, Uniqueness.server, _fit(254)] = None
    name: Name | None = None
    display_name: Annotated[str | None, _fit(120)] = None
    locale: Annotated[str | None, _fit(35)] = None
    timezone: Annotated[str | None, _fit(64)] = None
    active: bool | None = None
    emails: list[Email] | None = None
    groups: Annotated[list[GroupMembership] | None, Mutability.read_only] = None

    @property
    def address(self) -> str:
        """The primary address, or else that for work, or else the first; "" when there is none."""
        emails = [each for each in self.emails or [] if each.value]
        emails.sort(key=lambda each: (not each.primary, (each.type or "").lower() != "work"))
        return str(emails[0].value) if emails else ""


CONFIG = ServiceProviderConfig(
    patch=Patch(supported=True),
    bulk=Bulk(supported=False, max_operations=0, max_payload_size=0),
    filter=Filter(supported=True, max_results=LARGEST_PAGE),
    change_password=ChangePassword(supported=False),
    sort=Sort(supported=False),
    etag=ETag(supported=True),
    authentication_schemes=[
        AuthenticationScheme(
            type=AuthenticationScheme.Type.oauthbearertoken,
            name="API key",
            description="The API key of a service account that may provision, as a bearer token.",
            primary=True,
        )
    ],
    meta=Meta(resource_type="ServiceProviderConfig", location=f"{BASE}/ServiceProviderConfig"),
)
_PROVIDER = ScimProvider(models=[User, Group])
RESOURCE_TYPES: dict[str, Resource[Any]] = {str(each.name): each for each in _PROVIDER.resource_types}
SCHEMAS: dict[str, Resource[Any]] = {str(each.id): each for each in _PROVIDER.schemas}
for _kind, _all in (("ResourceType", RESOURCE_TYPES), ("Schema", SCHEMAS)):
    for _name, _each in _all.items():
        _each.meta = Meta(resource_type=_kind, location=f"{BASE}/{_kind}s/{_name}")

R = TypeVar("R", User, Group)


def invalid(field: str, description: str, scim_type: str = "invalidValue") -> InvalidArgument:
    """An error that the edge gives SCIM's form.

    Args:
        scim_type: of RFC 7644, table 9.
    """
    failure = InvalidArgument({field: description})
    failure.metadata["scimType"] = scim_type
    return failure


def taken(reason: str, field: str, english: str, arabic: str) -> AlreadyExists:
    """The error for a value that somebody else has."""
    return AlreadyExists(reason, english, arabic, violations={field: "is taken"}, metadata={"scimType": "uniqueness"})


def read(kind: type[R], body: HttpBody, *, new: bool) -> R:
    """A resource of a request.

    Args:
        new: it is to be made, and does not replace another.

    Raises:
        InvalidArgument: naming the attribute that is wrong.
    """
    context = Context.RESOURCE_CREATION_REQUEST if new else Context.RESOURCE_REPLACEMENT_REQUEST
    try:
        return kind.model_validate_json(body.data, scim_ctx=context, scim_policy=_POLICY)
    except (ValidationError, SCIMException) as error:
        raise _refusal(error, "resource") from None


def read_patch(kind: type[R], body: HttpBody) -> "PatchOp[R]":
    """The operations of a request. Raises: as `read`."""
    model: Any = kind
    try:
        patch = PatchOp[model].model_validate_json(
            body.data, scim_ctx=Context.RESOURCE_PATCH_REQUEST, scim_policy=_POLICY
        )
    except (ValidationError, SCIMException) as error:
        raise _refusal(error, "Operations") from None
    if len(patch.operations or ()) > MOST_OPERATIONS:
        raise invalid("Operations", f"are more than {MOST_OPERATIONS}", "tooMany")
    return patch


def patched(before: R, patch: "PatchOp[R]") -> R:
    """A resource as operations leave it. Raises: as `read`."""
    after = before.model_copy(deep=True)
    try:
        patch.patch(after, scim_policy=_POLICY)
    except (ValidationError, SCIMException) as error:
        raise _refusal(error, "Operations") from None
    return after


def members_named(patch: PatchOp[Group]) -> set[str] | None:
    """Those of a group's members that operations can be about; None when that is all of them.

    A group may have thousands of members, and each costs time in every operation.
    """
    if any(map(_is_about_all_members, patch.operations or ())):
        return None
    return set(_UUID.findall(patch.model_dump_json(scim_ctx=Context.DEFAULT).lower()))


def _is_about_all_members(operation: PatchOperation[Group]) -> bool:
    path = str(operation.path or "").lower()
    if operation.op == PatchOperation.Op.add or _ONE_MEMBER.fullmatch(path):
        return False
    if operation.op == PatchOperation.Op.remove and isinstance(operation.value, list):
        return not all(isinstance(each, dict) and each.get("value") for each in operation.value)
    return "members" in path or (not path and "members" in str(operation.value).lower())


class Shown:
    """Which attributes of a kind of resource a caller wants to see."""

    def __init__(self, kind: Any, attributes: str, excluded_attributes: str) -> None:
        """Raises: InvalidArgument when they cannot be read."""
        try:
            self._parameters = ResponseParameters[kind](
                attributes=attributes or None, excluded_attributes=excluded_attributes or None
            )
        except (ValidationError, SCIMException) as error:
            raise _refusal(error, "attributes") from None

    def members(self) -> bool:
        """Whether the members of groups are asked for."""
        wanted = [str(each).lower() for each in self._parameters.attributes or ()]
        return (not wanted or any("members" in each for each in wanted)) and "members" not in [
            str(each).lower() for each in self._parameters.excluded_attributes or ()
        ]

    def one(self, resource: Resource[Any], member_ids: Sequence[str] = ()) -> HttpBody:
        """A resource.

        Args:
            member_ids: of a group that holds none itself: as models, thousands would take their time.
        """
        return _body(self._with_members(self._dumped(resource), member_ids))

    def page(self, resources: Sequence[R], total: int, start_index: int) -> HttpBody:
        return self._page([self._dumped(each) for each in resources], total, start_index)

    def page_of_groups(self, found: Sequence[tuple[Group, Sequence[str]]], total: int, start_index: int) -> HttpBody:
        """The same for groups with the ids of their members."""
        return self._page([self._with_members(self._dumped(group), ids) for group, ids in found], total, start_index)

    def _page(self, resources: list[dict[str, Any]], total: int, start_index: int) -> HttpBody:
        page = ListResponse[User](total_results=total, start_index=start_index, items_per_page=len(resources))
        return _body(page.model_dump(scim_ctx=Context.RESOURCE_QUERY_RESPONSE) | {"Resources": resources})

    def _dumped(self, resource: Resource[Any]) -> dict[str, Any]:
        return resource.model_dump(scim_ctx=Context.RESOURCE_QUERY_RESPONSE, response_parameters=self._parameters)

    def _with_members(self, dumped: dict[str, Any], member_ids: Sequence[str]) -> dict[str, Any]:
        if member_ids:
            dumped["members"] = [{"value": each, "$ref": f"{BASE}/Users/{each}", "type": "User"} for each in member_ids]
        return dumped


def described(resource: Resource[Any]) -> HttpBody:
    """What SCIM says of itself."""
    return _body(resource.model_dump(scim_ctx=Context.RESOURCE_QUERY_RESPONSE))


def described_all(resources: Mapping[str, Resource[Any]]) -> HttpBody:
    listed = list(resources.values())
    kind: Any = type(listed[0])
    page = ListResponse[kind](total_results=len(listed), start_index=1, items_per_page=len(listed), resources=listed)
    return _body(page.model_dump(scim_ctx=Context.RESOURCE_QUERY_RESPONSE))


def _body(content: dict[str, Any]) -> HttpBody:
    return HttpBody(content_type=MEDIA_TYPE, data=json.dumps(content, ensure_ascii=False).encode())


# What a comparison with `eq` is in SQL, by attribute: the condition on {}, and what its value is made to.
Columns = Mapping[str, tuple[str, Callable[[Any], object]]]


def condition(filter: str, kind: type[Resource[Any]], columns: Columns, parameters: list[object]) -> str:
    """The SQL condition that a filter stands for; its values are added to `parameters`.

    Raises:
        InvalidArgument: it cannot be read, or is not among `columns` by `eq` and `and`.
    """
    if not filter:
        return "TRUE"
    try:
        tree = ScimFilter(filter).ast
    except (SCIMException, RecursionError) as error:
        raise invalid("filter", "cannot be read", "invalidFilter") from error
    return _Condition(str(kind.__schema__).lower() + ":", columns, parameters).visit(tree)


class _Condition(FilterVisitor[str]):
    def __init__(self, prefix: str, columns: Columns, parameters: list[object]) -> None:
        self.prefix = prefix
        self.columns = columns
        self.parameters = parameters

    def visit_comparison(self, node: Comparison) -> str:
        name = str(node.attr_path).lower().removeprefix(self.prefix)
        if name not in self.columns or node.op is not CompareOperator.eq:
            raise self._unsupported(node)
        sql, made = self.columns[name]
        wanted = bool if made is bool else str
        if not isinstance(node.value, wanted) or "\0" in str(node.value):
            raise invalid("filter", f"cannot compare {node.attr_path} with this value", "invalidFilter")
        self.parameters.append(made(node.value))
        return sql.format(f"${len(self.parameters)}")

    def visit_logical_expr(self, node: LogicalExpr) -> str:
        if node.op is not LogicalOperator.and_:
            raise self._unsupported(node)
        return " AND ".join(map(self.visit, node.terms))

    def visit_present(self, node: Any) -> str:
        raise self._unsupported(node)

    visit_not = visit_value_path = visit_present

    def _unsupported(self, node: object) -> InvalidArgument:
        return invalid("filter", f"may hold eq and and, over {', '.join(self.columns)}; not {node}", "invalidFilter")


def _refusal(error: ValidationError | SCIMException, whole: str) -> InvalidArgument:
    """What a library found wrong, as an error of ours.

    Args:
        whole: what is wrong where no attribute is named.
    """
    if isinstance(error.__cause__, ValidationError):  # a value that a patch brought
        error = error.__cause__
    if isinstance(error, SCIMException):
        named = error.context.get("attribute") or error.context.get("path")
        return invalid(str(named or whole), error.detail, error.scim_type or "invalidValue")
    first = error.errors(include_url=False, include_input=False)[0]
    scim_type = first.get("ctx", {}).get("scim_type") or (
        "invalidSyntax" if first["type"] == "json_invalid" else "invalidValue"
    )
    field = ".".join(str(each) for each in first["loc"]) or whole
    return invalid(field, first["msg"].removeprefix("Value error, "), scim_type)
