"""What each role may do: every RPC of the contracts, as everyone, through the edge and past it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest

from deploy.local.mesh import Mesh
from libs import contracts, permissions
from tests.conftest import Metadata, bearer

INTERNAL: set[str] = set()  # other services alone; who they are the service mesh knows
ADMIN = {"administrator"}
EDITORS = {"editor", *ADMIN}
AUTHORS = {"author", *EDITORS}
REVIEWERS, PUBLISHERS = {"reviewer", *EDITORS}, {"publisher", *EDITORS}
STAFF = AUTHORS | REVIEWERS | PUBLISHERS
EVERYONE = {"", "reader", *STAFF}

# Said here a second time on purpose: opening an RPC to more people must take two thoughts.
MAY_CALL = {
    "AuthService/Login": EVERYONE,
    "AuthService/RefreshTokens": EVERYONE,
    "AuthService/Logout": EVERYONE,
    "AuthService/GetMe": EVERYONE - {""},
    "AuthService/CreateUser": ADMIN,
    "AuthService/GetJwks": EVERYONE,
    "SessionService/ListSessions": EVERYONE - {""},
    "SessionService/EndSession": EVERYONE - {""},
    "SessionService/EndSessions": EVERYONE - {""},
    "SessionService/ListRevocations": INTERNAL,
    "SigningKeyService/ListSigningKeys": ADMIN,
    "SigningKeyService/RotateSigningKeys": ADMIN,
    "SigningKeyService/RemoveSigningKey": ADMIN,
    "RoleService/CreateRole": ADMIN,
    "RoleService/GetRole": ADMIN,
    "RoleService/ListRoles": ADMIN,
    "RoleService/UpdateRole": ADMIN,
    "RoleService/DeleteRole": ADMIN,
    "RoleService/TestPermissions": EVERYONE - {""},
    "RoleService/GetRoleSnapshot": INTERNAL,
    "ContentService/CreateContent": AUTHORS,
    "ApiKeyService/CreateApiKey": EVERYONE - {""},
    "ApiKeyService/GetApiKey": EVERYONE - {""},
    "ApiKeyService/ListApiKeys": EVERYONE - {""},
    "ApiKeyService/DeleteApiKey": EVERYONE - {""},
    "ApiKeyService/RotateApiKey": EVERYONE - {""},
    "ApiKeyService/ExchangeApiKey": EVERYONE,
    "ServiceAccountService/CreateServiceAccount": ADMIN,
    "ServiceAccountService/ListServiceAccounts": ADMIN,
    "ServiceAccountService/DisableServiceAccount": ADMIN,
    "ServiceAccountService/EnableServiceAccount": ADMIN,
    "ServiceAccountService/DeleteServiceAccount": ADMIN,
    "AuditService/ListAuditEvents": ADMIN,
    "AuditService/VerifyAuditEvents": ADMIN,
    "MfaService/VerifyMfa": EVERYONE,
    "MfaService/BeginPasskeyLogin": EVERYONE,
    "MfaService/FinishPasskeyLogin": EVERYONE,
    "MfaService/BeginMfaEnrolment": EVERYONE - {""},
    "MfaService/EnrolTotp": EVERYONE,
    "MfaService/ConfirmTotp": EVERYONE,
    "MfaService/BeginPasskeyRegistration": EVERYONE,
    "MfaService/FinishPasskeyRegistration": EVERYONE,
    "MfaService/GetMfa": EVERYONE - {""},
    "MfaService/RenamePasskey": EVERYONE - {""},
    "MfaService/DeletePasskey": EVERYONE - {""},
    "MfaService/DisableTotp": EVERYONE - {""},
    "MfaService/RegenerateRecoveryCodes": EVERYONE - {""},
    "MfaService/GetMfaPolicy": ADMIN,
    "MfaService/UpdateMfaRule": ADMIN,
    "MfaService/ResetUserMfa": ADMIN,
    "OidcService/CreateOidcProvider": ADMIN,
    "OidcService/GetOidcProvider": ADMIN,
    "OidcService/ListOidcProviders": ADMIN,
    "OidcService/UpdateOidcProvider": ADMIN,
    "OidcService/DeleteOidcProvider": ADMIN,
    "OidcService/ListSignInProviders": EVERYONE,
    "OidcService/BeginOidcLogin": EVERYONE,
    "OidcService/FinishOidcLogin": EVERYONE,
    "OidcService/ListIdentities": EVERYONE - {""},
    "OidcService/BeginIdentityLink": EVERYONE - {""},
    "OidcService/FinishIdentityLink": EVERYONE - {""},
    "OidcService/DeleteIdentity": EVERYONE - {""},
    "OidcService/ListUserIdentities": ADMIN,
    "OidcService/DeleteUserIdentity": ADMIN,
    "UserService/InviteUser": ADMIN,
    "UserService/RegisterUser": EVERYONE,
    "UserService/RequestPasswordReset": EVERYONE,
    "UserService/SetPassword": EVERYONE,
    "UserService/ChangePassword": EVERYONE - {""},
    "UserService/UpdateMe": EVERYONE - {""},
    "UserService/BeginEmailChange": EVERYONE - {""},
    "UserService/FinishEmailChange": EVERYONE - {""},
    "UserService/DeleteMe": EVERYONE - {""},
    "UserService/GetUser": ADMIN,
    "UserService/ListUsers": ADMIN,
    "UserService/UpdateUser": ADMIN,
    "UserService/ChangeUserEmail": ADMIN,
    "UserService/DisableUser": ADMIN,
    "UserService/EnableUser": ADMIN,
    "UserService/DeleteUser": ADMIN,
    "GroupService/GetGroup": ADMIN,
    "GroupService/ListGroups": ADMIN,
    "GroupService/UpdateGroup": ADMIN,
    "ScimService/GetScimServiceProviderConfig": ADMIN,
    "ScimService/ListScimResourceTypes": ADMIN,
    "ScimService/GetScimResourceType": ADMIN,
    "ScimService/ListScimSchemas": ADMIN,
    "ScimService/GetScimSchema": ADMIN,
    "ScimService/CreateScimUser": ADMIN,
    "ScimService/GetScimUser": ADMIN,
    "ScimService/ListScimUsers": ADMIN,
    "ScimService/ReplaceScimUser": ADMIN,
    "ScimService/PatchScimUser": ADMIN,
    "ScimService/DeleteScimUser": ADMIN,
    "ScimService/CreateScimGroup": ADMIN,
    "ScimService/GetScimGroup": ADMIN,
    "ScimService/ListScimGroups": ADMIN,
    "ScimService/ReplaceScimGroup": ADMIN,
    "ScimService/PatchScimGroup": ADMIN,
    "ScimService/DeleteScimGroup": ADMIN,
    "ContentService/GetContent": EVERYONE,
    "ContentService/ListContents": EVERYONE,
    "ContentService/UpdateContent": AUTHORS,
    "ContentService/PublishContent": PUBLISHERS,
    "ContentService/UnpublishContent": PUBLISHERS,
    "ContentService/DeleteContent": EDITORS,
    "ContentService/UndeleteContent": EDITORS,
    "WorkflowService/SubmitContent": AUTHORS,
    "WorkflowService/ApproveContent": REVIEWERS,
    "WorkflowService/RequestContentChanges": REVIEWERS,
    "WorkflowService/ArchiveContent": PUBLISHERS,
    "WorkflowService/RestoreContent": PUBLISHERS,
    "WorkflowService/ScheduleContent": PUBLISHERS,
    "WorkflowService/UnscheduleContent": PUBLISHERS,
    "WorkflowService/ConfirmTranslation": AUTHORS,
    "CommentService/CreateComment": STAFF,
    "CommentService/GetComment": STAFF,
    "CommentService/ListComments": STAFF,
    "CommentService/UpdateComment": STAFF,
    "CommentService/DeleteComment": STAFF,
    "CommentService/ResolveComment": STAFF,
    "CommentService/ReopenComment": STAFF,
    "RevisionService/ListRevisions": STAFF,
    "RevisionService/GetRevision": STAFF,
    "RevisionService/DiffRevisions": STAFF,
    "RevisionService/RestoreRevision": AUTHORS,
    "ReferenceService/ListReferences": EVERYONE,
    "SlugService/GetContentBySlug": EVERYONE,
    "SlugService/ListOldSlugs": STAFF,
    "SlugService/ReleaseOldSlug": PUBLISHERS,
    "BlockService/EditBlocks": AUTHORS,
    "RichTextService/ParseRichText": AUTHORS,
    "RichTextService/RenderRichText": EVERYONE - {""},
    "RichTextService/DiffRichText": EVERYONE - {""},
    "ContentTypeService/CreateContentType": ADMIN,
    "ContentTypeService/GetContentType": STAFF,
    "ContentTypeService/ListContentTypes": STAFF,
    "ContentTypeService/UpdateContentType": ADMIN,
    "ContentTypeService/DeleteContentType": ADMIN,
    "ContentTypeService/GetContentTypeSchema": STAFF,
    "TaxonomyService/ListLocales": EVERYONE,
    "TaxonomyService/GetLocale": EVERYONE,
    "TaxonomyService/CreateLocale": ADMIN,
    "TaxonomyService/UpdateLocale": ADMIN,
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
        return bool(role) and rpc.access.permission in permissions.hold("", [role], {})
    return rule in ("anyone", "by_credentials") or (rule == "signed_in" and bool(role))


@pytest.fixture(scope="module")
async def metadata(admin_token: str, sign_in: Callable[..., Awaitable[str]]) -> dict[str, Metadata]:
    """The metadata of each role's calls."""
    others = EVERYONE - {"", *ADMIN}
    return {"": (), "administrator": bearer(admin_token)} | {role: bearer(await sign_in(role)) for role in others}


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
    assert permissions.BUILT_IN.keys() | {""} == EVERYONE


@pytest.mark.parametrize("name", RPCS)
def test_the_contract_opens_an_rpc_to_whom_the_table_says(name: str) -> None:
    assert {role for role in EVERYONE if granted(RPCS[name], role)} == MAY_CALL[name]


OPEN = [name for name in RPCS if RPCS[name].access.WhichOneof("rule") != "internal"]


@pytest.mark.parametrize("name", [name for name in RPCS if name not in OPEN])
async def test_an_internal_rpc_is_not_served_through_the_edge(
    edge: grpc.aio.Channel, metadata: dict[str, Metadata], name: str
) -> None:
    for each in metadata.values():
        raw: Any = edge.unary_unary(RPCS[name].path)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw(b"", metadata=each, timeout=10)
        assert caught.value.code() in {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED}


@pytest.mark.parametrize("name", OPEN)
async def test_an_rpc_serves_whom_it_may_and_nobody_else(
    channels: dict[str, grpc.aio.Channel], metadata: dict[str, Metadata], name: str
) -> None:
    rpc = RPCS[name]
    if rpc.access.internal:
        pytest.skip("the mesh keeps it from outside: test_the_edge_does_not_know_what_is_for_services")
    call: Any = channels[rpc.service].unary_unary(rpc.path)

    for role in sorted(EVERYONE):
        code = grpc.StatusCode.OK
        try:
            await call(b"", metadata=metadata[role], timeout=10)
        except grpc.aio.AioRpcError as error:
            code = error.code()
        if role in MAY_CALL[name]:
            # An empty request is a bad one for most, which shows that it was looked at; some want a fresh sign-in.
            assert code in {
                grpc.StatusCode.OK,
                grpc.StatusCode.INVALID_ARGUMENT,
                grpc.StatusCode.FAILED_PRECONDITION,
            }, role
        else:
            assert code == (grpc.StatusCode.PERMISSION_DENIED if role else grpc.StatusCode.UNAUTHENTICATED), role


async def test_the_edge_does_not_know_what_is_for_services(
    edge: grpc.aio.Channel, metadata: dict[str, Metadata]
) -> None:
    raw: Any = edge.unary_unary
    for rpc in RPCS.values():
        if rpc.access.internal:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await raw(rpc.path)(b"", metadata=metadata["administrator"], timeout=10)
            assert caught.value.code() in {grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.NOT_FOUND}, rpc.path


async def test_what_is_no_rpc_of_the_contracts_is_not_served(
    edge: grpc.aio.Channel, metadata: dict[str, Metadata]
) -> None:
    raw: Any = edge.unary_unary
    for path in (
        "/thmnayah.content.v1.ContentService/DropEverything",
        "/grpc.health.v1.Health/Check",
        "/envoy.service.auth.v3.Authorization/Check",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/thmnayah.auth.v1.AuthService/../../x",
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw(path)(b"", metadata=metadata["administrator"], timeout=10)
        assert caught.value.code() in {grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.NOT_FOUND}, path
