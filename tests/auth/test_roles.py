"""What each role may do: every RPC of the contracts, as everyone, through the edge and past it."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from deploy.local.mesh import Mesh
from libs import contracts
from libs.identity import ROLES
from tests.conftest import Metadata, bearer

EVERYONE = {"", "reader", "editor", "admin"}
EDITORS = {"editor", "admin"}

# Said here a second time on purpose: opening an RPC to more people must take two thoughts.
MAY_CALL = {
    "AuthService/Login": EVERYONE,
    "AuthService/RefreshTokens": EVERYONE,
    "AuthService/Logout": EVERYONE,
    "AuthService/GetMe": EVERYONE - {""},
    "AuthService/CreateUser": {"admin"},
    "AuthService/GetJwks": EVERYONE,
    "UserService/InviteUser": {"admin"},
    "UserService/RegisterUser": EVERYONE,
    "UserService/RequestPasswordReset": EVERYONE,
    "UserService/SetPassword": EVERYONE,
    "UserService/ChangePassword": EVERYONE - {""},
    "UserService/UpdateMe": EVERYONE - {""},
    "UserService/GetUser": {"admin"},
    "UserService/ListUsers": {"admin"},
    "UserService/UpdateUser": {"admin"},
    "UserService/DisableUser": {"admin"},
    "UserService/EnableUser": {"admin"},
    "UserService/DeleteUser": {"admin"},
    "ContentService/CreateContent": EDITORS,
    "ContentService/GetContent": EVERYONE,
    "ContentService/ListContents": EVERYONE,
    "ContentService/UpdateContent": EDITORS,
    "ContentService/PublishContent": EDITORS,
    "ContentService/UnpublishContent": EDITORS,
    "ContentService/DeleteContent": EDITORS,
    "ContentService/UndeleteContent": EDITORS,
    "WorkflowService/SubmitContent": EDITORS,
    "WorkflowService/ApproveContent": EDITORS,
    "WorkflowService/RequestContentChanges": EDITORS,
    "WorkflowService/ArchiveContent": EDITORS,
    "WorkflowService/RestoreContent": EDITORS,
    "WorkflowService/ScheduleContent": EDITORS,
    "WorkflowService/UnscheduleContent": EDITORS,
    "WorkflowService/ConfirmTranslation": EDITORS,
    "CommentService/CreateComment": EDITORS,
    "CommentService/GetComment": EDITORS,
    "CommentService/ListComments": EDITORS,
    "CommentService/UpdateComment": EDITORS,
    "CommentService/DeleteComment": EDITORS,
    "CommentService/ResolveComment": EDITORS,
    "CommentService/ReopenComment": EDITORS,
    "RevisionService/ListRevisions": EDITORS,
    "RevisionService/GetRevision": EDITORS,
    "RevisionService/DiffRevisions": EDITORS,
    "RevisionService/RestoreRevision": EDITORS,
    "ReferenceService/ListReferences": EVERYONE,
    "SlugService/GetContentBySlug": EVERYONE,
    "SlugService/ListOldSlugs": EDITORS,
    "SlugService/ReleaseOldSlug": EDITORS,
    "BlockService/EditBlocks": EDITORS,
    "RichTextService/ParseRichText": EDITORS,
    "RichTextService/RenderRichText": EVERYONE - {""},
    "RichTextService/DiffRichText": EVERYONE - {""},
    "ContentTypeService/CreateContentType": {"admin"},
    "ContentTypeService/GetContentType": EDITORS,
    "ContentTypeService/ListContentTypes": EDITORS,
    "ContentTypeService/UpdateContentType": {"admin"},
    "ContentTypeService/DeleteContentType": {"admin"},
    "ContentTypeService/GetContentTypeSchema": EDITORS,
    "TaxonomyService/ListLocales": EVERYONE,
    "TaxonomyService/GetLocale": EVERYONE,
    "TaxonomyService/CreateLocale": {"admin"},
    "TaxonomyService/UpdateLocale": {"admin"},
    "TaxonomyService/ListCategories": EVERYONE,
    "TaxonomyService/GetCategory": EVERYONE,
    "TaxonomyService/CreateCategory": EDITORS,
    "TaxonomyService/UpdateCategory": EDITORS,
    "TaxonomyService/MoveCategory": EDITORS,
    "TaxonomyService/ReorderCategories": EDITORS,
    "TaxonomyService/DeleteCategory": EDITORS,
    "TaxonomyService/ListTags": EVERYONE,
    "TaxonomyService/RenameTag": EDITORS,
    "TaxonomyService/MergeTags": EDITORS,
    "SearchService/Search": EVERYONE,
    "GatewayService/GetHealth": EVERYONE,
    "GatewayService/GetReadiness": EVERYONE,
    "GatewayService/GetOpenApi": EVERYONE,
    "GatewayService/GetDocs": EVERYONE,
}
RPCS = {rpc.path.rsplit(".", 1)[1]: rpc for rpc in contracts.rpcs()}


def granted(rpc: contracts.Rpc, role: str) -> bool:
    """Whether the contract opens the RPC to the role."""
    rule = rpc.access.WhichOneof("rule")
    if rule == "permission":
        return bool(role) and rpc.access.permission in ROLES[role]
    return rule in ("anyone", "by_credentials") or (rule == "signed_in" and bool(role))


@pytest.fixture(scope="module")
async def metadata(admin_token: str, editor: Metadata, reader: Metadata) -> dict[str, Metadata]:
    """The metadata of each role's calls."""
    return {"": (), "reader": reader, "editor": editor, "admin": bearer(admin_token)}


@pytest.fixture(scope="module", params=["through the edge", "past the edge"])
async def channels(
    request: pytest.FixtureRequest, mesh: Mesh, edge: grpc.aio.Channel
) -> AsyncIterator[dict[str, grpc.aio.Channel]]:
    """A channel to each service."""
    names = {rpc.service for rpc in RPCS.values()}
    if request.param == "through the edge":
        yield dict.fromkeys(names, edge)
        return
    own = {name: grpc.aio.insecure_channel(mesh.service_address(name)) for name in names}
    yield own
    for channel in own.values():
        await channel.close()


def test_every_rpc_and_every_role_is_in_the_table() -> None:
    assert RPCS.keys() == MAY_CALL.keys()
    assert ROLES.keys() | {""} == EVERYONE


@pytest.mark.parametrize("name", RPCS)
def test_the_contract_opens_an_rpc_to_whom_the_table_says(name: str) -> None:
    assert {role for role in EVERYONE if granted(RPCS[name], role)} == MAY_CALL[name]


@pytest.mark.parametrize("name", RPCS)
async def test_an_rpc_serves_whom_it_may_and_nobody_else(
    channels: dict[str, grpc.aio.Channel], metadata: dict[str, Metadata], name: str
) -> None:
    rpc = RPCS[name]
    call: Any = channels[rpc.service].unary_unary(rpc.path)

    for role in sorted(EVERYONE):
        code = grpc.StatusCode.OK
        try:
            await call(b"", metadata=metadata[role], timeout=10)
        except grpc.aio.AioRpcError as error:
            code = error.code()
        if role in MAY_CALL[name]:
            # An empty request is a bad one for most, which shows that it was looked at.
            assert code in {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT}, role
        else:
            assert code == (grpc.StatusCode.PERMISSION_DENIED if role else grpc.StatusCode.UNAUTHENTICATED), role


async def test_what_is_no_rpc_of_the_contracts_is_not_served(
    edge: grpc.aio.Channel, metadata: dict[str, Metadata]
) -> None:
    raw: Any = edge.unary_unary
    for path in (
        "/thmnayah.content.v1.ContentService/DropEverything",
        "/grpc.health.v1.Health/Check",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/thmnayah.auth.v1.AuthService/../../x",
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw(path)(b"", metadata=metadata["admin"], timeout=10)
        assert caught.value.code() in {grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.NOT_FOUND}, path
