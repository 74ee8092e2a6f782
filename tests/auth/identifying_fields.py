"""What the fields of requests refer to, said for every RPC: how one asks for another's things."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum, auto

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from libs import contracts


class Thing(StrEnum):
    """What somebody can own, or what all share."""

    DRAFT = auto()
    REVISION = auto()
    COMMENT = auto()
    SCHEDULE = auto()
    BLOCK = auto()
    SLUG = auto()
    USER = auto()
    SESSION = auto()
    PASSKEY = auto()
    API_KEY = auto()
    SERVICE_ACCOUNT = auto()
    ROLE = auto()
    SIGNING_KEY = auto()
    TYPE = auto()
    CATEGORY = auto()
    LOCALE = auto()
    TAG = auto()
    NAME = auto()
    """Whatever it is, it is only named: who may name it learns nothing of it."""
    SECRET = auto()
    """A credential, which has tests of its own."""


T = Thing
# Whoever may see them at all sees all of them; to change them is another thing.
SHARED = {T.TYPE, T.CATEGORY, T.LOCALE, T.TAG}

_CONTENT, _COMMENT = {"id": T.DRAFT}, {"content_id": T.DRAFT, "id": T.COMMENT}

# Of every RPC, the fields of its request itself; a new one without a row fails the test.
ROWS: dict[str, dict[str, Thing]] = {
    "AuthService/Login": {},
    "AuthService/RefreshTokens": {},
    "AuthService/Logout": {},
    "AuthService/GetMe": {},
    "AuthService/CreateUser": {"roles": T.ROLE},
    "AuthService/GetJwks": {},
    "SessionService/ListSessions": {"user_id": T.USER},
    "SessionService/EndSession": {"user_id": T.USER, "id": T.SESSION},
    "SessionService/EndSessions": {"user_id": T.USER},
    "SessionService/ListRevocations": {},
    "SigningKeyService/ListSigningKeys": {},
    "SigningKeyService/RotateSigningKeys": {},
    "SigningKeyService/RemoveSigningKey": {"kid": T.SIGNING_KEY},
    "RoleService/CreateRole": {},
    "RoleService/GetRole": {"id": T.ROLE},
    "RoleService/ListRoles": {},
    "RoleService/UpdateRole": {},
    "RoleService/DeleteRole": {"id": T.ROLE},
    "RoleService/TestPermissions": {"user_id": T.USER},
    "RoleService/GetRoleSnapshot": {},
    "AuditService/ListAuditEvents": {},
    "AuditService/VerifyAuditEvents": {},
    "ApiKeyService/CreateApiKey": {"service_account_id": T.SERVICE_ACCOUNT},
    "ApiKeyService/GetApiKey": {"id": T.API_KEY},
    "ApiKeyService/ListApiKeys": {"owner_id": T.USER},
    "ApiKeyService/DeleteApiKey": {"id": T.API_KEY},
    "ApiKeyService/RotateApiKey": {"id": T.API_KEY},
    "ApiKeyService/ExchangeApiKey": {},
    "ServiceAccountService/CreateServiceAccount": {"roles": T.ROLE},
    "ServiceAccountService/ListServiceAccounts": {},
    "ServiceAccountService/DisableServiceAccount": {"id": T.SERVICE_ACCOUNT},
    "ServiceAccountService/EnableServiceAccount": {"id": T.SERVICE_ACCOUNT},
    "ServiceAccountService/DeleteServiceAccount": {"id": T.SERVICE_ACCOUNT},
    "MfaService/VerifyMfa": {},
    "MfaService/BeginPasskeyLogin": {},
    "MfaService/FinishPasskeyLogin": {},
    "MfaService/BeginMfaEnrolment": {},
    "MfaService/EnrolTotp": {},
    "MfaService/ConfirmTotp": {"code": T.SECRET},
    "MfaService/BeginPasskeyRegistration": {},
    "MfaService/FinishPasskeyRegistration": {},
    "MfaService/GetMfa": {},
    "MfaService/RenamePasskey": {"id": T.PASSKEY},
    "MfaService/DeletePasskey": {"id": T.PASSKEY},
    "MfaService/DisableTotp": {},
    "MfaService/RegenerateRecoveryCodes": {},
    "MfaService/GetMfaPolicy": {},
    "MfaService/UpdateMfaRule": {},
    "MfaService/ResetUserMfa": {"id": T.USER},
    "OidcService/CreateOidcProvider": {},
    "OidcService/GetOidcProvider": {"id": T.NAME},
    "OidcService/ListOidcProviders": {},
    "OidcService/UpdateOidcProvider": {},
    "OidcService/DeleteOidcProvider": {"id": T.NAME},
    "OidcService/ListSignInProviders": {},
    "OidcService/BeginOidcLogin": {},
    "OidcService/FinishOidcLogin": {"code": T.SECRET},
    "OidcService/ListIdentities": {},
    "OidcService/BeginIdentityLink": {},
    "OidcService/FinishIdentityLink": {"code": T.SECRET},
    "OidcService/DeleteIdentity": {"id": T.NAME},
    "OidcService/ListUserIdentities": {"user_id": T.USER},
    "OidcService/DeleteUserIdentity": {"user_id": T.USER, "id": T.NAME},
    "UserService/InviteUser": {"roles": T.ROLE},
    "UserService/RegisterUser": {},
    "UserService/RequestPasswordReset": {},
    "UserService/SetPassword": {"code": T.SECRET},
    "UserService/ChangePassword": {},
    "UserService/UpdateMe": {},
    "UserService/BeginEmailChange": {},
    "UserService/FinishEmailChange": {"code": T.SECRET},
    "UserService/DeleteMe": {},
    "UserService/GetUser": {"id": T.USER},
    "UserService/ListUsers": {},
    "UserService/UpdateUser": {},
    "UserService/ChangeUserEmail": {"id": T.USER},
    "UserService/DisableUser": {"id": T.USER},
    "UserService/EnableUser": {"id": T.USER},
    "UserService/DeleteUser": {"id": T.USER},
    "GroupService/GetGroup": {"id": T.NAME},
    "GroupService/ListGroups": {},
    "GroupService/UpdateGroup": {},
    "ScimService/GetScimServiceProviderConfig": {},
    "ScimService/ListScimResourceTypes": {},
    "ScimService/GetScimResourceType": {},
    "ScimService/ListScimSchemas": {},
    "ScimService/GetScimSchema": {"urn": T.NAME},
    "ScimService/CreateScimUser": {},
    "ScimService/GetScimUser": {"id": T.USER},
    "ScimService/ListScimUsers": {},
    "ScimService/ReplaceScimUser": {"id": T.USER},
    "ScimService/PatchScimUser": {"id": T.USER},
    "ScimService/DeleteScimUser": {"id": T.USER},
    "ScimService/CreateScimGroup": {},
    "ScimService/GetScimGroup": {"id": T.NAME},
    "ScimService/ListScimGroups": {},
    "ScimService/ReplaceScimGroup": {"id": T.NAME},
    "ScimService/PatchScimGroup": {"id": T.NAME},
    "ScimService/DeleteScimGroup": {"id": T.NAME},
    "ContentService/CreateContent": {},
    "ContentService/GetContent": _CONTENT,
    "ContentService/ListContents": {},
    "ContentService/UpdateContent": {},
    "ContentService/PublishContent": _CONTENT,
    "ContentService/UnpublishContent": _CONTENT,
    "ContentService/DeleteContent": _CONTENT,
    "ContentService/UndeleteContent": _CONTENT,
    "WorkflowService/SubmitContent": {**_CONTENT, "reviewers": T.NAME},
    "WorkflowService/ApproveContent": {**_CONTENT, "revision": T.REVISION},
    "WorkflowService/RequestContentChanges": _CONTENT,
    "WorkflowService/ArchiveContent": _CONTENT,
    "WorkflowService/RestoreContent": _CONTENT,
    "WorkflowService/ScheduleContent": _CONTENT,
    "WorkflowService/UnscheduleContent": {**_CONTENT, "schedule_id": T.SCHEDULE},
    "WorkflowService/ConfirmTranslation": _CONTENT,
    "RevisionService/ListRevisions": _CONTENT,
    "RevisionService/GetRevision": {**_CONTENT, "number": T.REVISION},
    "RevisionService/DiffRevisions": {**_CONTENT, "from": T.REVISION, "to": T.REVISION},
    "RevisionService/RestoreRevision": {**_CONTENT, "number": T.REVISION},
    "ReferenceService/ListReferences": _CONTENT,
    "CommentService/CreateComment": {},
    "CommentService/GetComment": _COMMENT,
    "CommentService/ListComments": {"content_id": T.DRAFT},
    "CommentService/UpdateComment": {},
    "CommentService/DeleteComment": _COMMENT,
    "CommentService/ResolveComment": _COMMENT,
    "CommentService/ReopenComment": _COMMENT,
    "RichTextService/ParseRichText": {},
    "RichTextService/RenderRichText": {},
    "RichTextService/DiffRichText": {},
    "SlugService/GetContentBySlug": {"type": T.TYPE, "slug": T.SLUG},
    "SlugService/ListOldSlugs": _CONTENT,
    "SlugService/ReleaseOldSlug": {**_CONTENT, "slug": T.SLUG},
    "BlockService/EditBlocks": _CONTENT,
    "ContentTypeService/CreateContentType": {},
    "ContentTypeService/GetContentType": {"id": T.TYPE},
    "ContentTypeService/ListContentTypes": {},
    "ContentTypeService/UpdateContentType": {},
    "ContentTypeService/DeleteContentType": {"id": T.TYPE},
    "ContentTypeService/GetContentTypeSchema": {"id": T.TYPE},
    "TaxonomyService/ListLocales": {},
    "TaxonomyService/GetLocale": {"code": T.LOCALE},
    "TaxonomyService/CreateLocale": {},
    "TaxonomyService/UpdateLocale": {},
    "TaxonomyService/ListCategories": {"parent_id": T.CATEGORY},
    "TaxonomyService/GetCategory": {"id": T.CATEGORY},
    "TaxonomyService/CreateCategory": {},
    "TaxonomyService/UpdateCategory": {},
    "TaxonomyService/MoveCategory": {"id": T.CATEGORY, "parent_id": T.CATEGORY},
    "TaxonomyService/ReorderCategories": {"parent_id": T.CATEGORY, "ids": T.CATEGORY},
    "TaxonomyService/DeleteCategory": {"id": T.CATEGORY, "move_to": T.CATEGORY},
    "TaxonomyService/ListTags": {},
    "TaxonomyService/RenameTag": {"tag": T.TAG},
    "TaxonomyService/MergeTags": {"tags": T.TAG, "into": T.TAG},
    "GatewayService/GetHealth": {},
    "GatewayService/GetReadiness": {},
    "GatewayService/GetOpenApi": {},
    "GatewayService/GetDocs": {},
    "SearchService/Search": {},
}

# Of the messages in requests. A role's id is in `Role` as in `MfaRule.role`.
PARTS: dict[str, dict[str, Thing]] = {
    "Role": {"id": T.ROLE},
    "OidcProvider": {"id": T.NAME, "client_id": T.NAME, "group_roles": T.NAME},
    "Grant": {"types": T.TYPE, "categories": T.CATEGORY},
    "Resource": {"type": T.NAME, "category_path": T.NAME},
    "MfaRule": {"role": T.ROLE},
    "User": {"id": T.USER, "roles": T.ROLE, "group_roles": T.ROLE},
    "Group": {"id": T.NAME, "roles": T.ROLE},
    "Content": {
        "id": T.DRAFT,
        "type": T.NAME,
        "slug": T.NAME,
        "category": T.NAME,
        "tags": T.NAME,
        "external_id": T.NAME,
        "created_by": T.USER,
        "redirected_from": T.SLUG,
    },
    "Content.Review": {"revision": T.REVISION, "reviewers": T.USER, "submitted_by": T.USER},
    "Content.Review.Approval": {"user_id": T.USER},
    "Value": {"reference": T.NAME},
    "Block": {"id": T.NAME},
    "Span": {"content_id": T.NAME},
    "Block.Image": {"asset_id": T.NAME},
    "Block.Reference": {"content_id": T.NAME},
    "Schedule": {"id": T.SCHEDULE, "created_by": T.USER},
    "PublishWait": {"created_by": T.USER},
    "Comment": {
        "id": T.COMMENT,
        "content_id": T.DRAFT,
        "thread_id": T.COMMENT,
        "mentions": T.NAME,
        "block_id": T.BLOCK,
        "revision": T.REVISION,
        "resolved_by": T.USER,
        "created_by": T.USER,
    },
    "BlockEdit": {"delete": T.BLOCK},
    "BlockEdit.Place": {"after": T.BLOCK, "before": T.BLOCK},
    "BlockEdit.Move": {"id": T.BLOCK},
    "ContentType": {"id": T.TYPE},
    "Field": {"id": T.NAME},
    "Kind.Reference": {"types": T.TYPE},
    "Locale": {"code": T.LOCALE},
    "Category": {"id": T.CATEGORY, "parent_id": T.CATEGORY, "ancestor_ids": T.CATEGORY, "slug": T.NAME},
}

# What an RPC does not read, though another that takes the same message does.
UNREAD = {
    "UserService/UpdateMe": {"user.roles"},
    "CommentService/UpdateComment": {
        "comment.thread_id",
        "comment.block_id",
        "comment.revision",
    },
}

# What narrows a list, which without the right to see them is as empty as for what is not there.
NARROWS = {"ApiKeyService/ListApiKeys": {"owner_id"}}

# Fields that name no thing: texts, credentials (which are tested as such), choices, and how a list is asked for.
PLAIN = frozenset(
    """
    email password device_name device_token refresh_token display_name page_token etag permission permissions locale
    locales states state field fields filter head scopes api_key challenge totp_code recovery_code name time_zone
    current_password note local_time problem fallback_locales fallback expand order_by paths title description body
    text quote href alt url caption provider language lang markdown html pattern blocks value help path enum_value
    required_locales prefix query new_tag asset resolved_locales source_locale
    attributes excluded_attributes issuer client_secret redirect_uris redirect_uri groups_claim secret iss
    """.split()
)
_NUMBERS = {"number", "revision", "from", "to"}


@dataclass(frozen=True)
class Field:
    """A field of a request, or of a message in it."""

    path: tuple[FieldDescriptor, ...]
    """From the request on, with what a map holds behind the map."""

    @property
    def last(self) -> FieldDescriptor:
        return self.path[-1]

    @property
    def name(self) -> str:
        """As path templates and queries name it: `comment.content_id`."""
        return ".".join(each.name for each in self.path)

    @property
    def is_answer(self) -> bool:
        """Whether the contract says that it is not read from requests."""
        return any(
            field_behavior_pb2.OUTPUT_ONLY in each.GetOptions().Extensions[field_behavior_pb2.field_behavior]
            for each in self.path
        )

    @property
    def in_queries(self) -> bool:
        """Whether a query can hold it."""
        return not any(each.is_repeated and each.message_type for each in self.path)

    def json(self, value: str | int) -> dict[str, object]:
        """The request that holds nothing else."""
        made: object = value
        for each in reversed(self.path):
            if is_map(each):
                inner = {"rich_text": "story", "reference": "about"}
                key = next((inner.get(after.name, "about") for after in self.path[self.path.index(each) + 1 :]), "en")
                made = {key: made}
            elif each.is_repeated:
                made = [made]
            made = {each.json_name: made}
        assert isinstance(made, dict)
        return made


def is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def owner(field: Field) -> str:
    """The message that a field is of: `Content.Review` for thmnayah.content.v1.Content.Review."""
    assert field.last.containing_type is not None
    return str(field.last.containing_type.full_name).split(".", 3)[3]


def thing(rpc: contracts.Rpc, field: Field) -> Thing | None:
    """What a field names; None when it names nothing."""
    row = ROWS[name(rpc)] if len(field.path) == 1 else PARTS.get(owner(field), {})
    return row.get(field.last.name)


def unread(rpc: contracts.Rpc, field: Field) -> bool:
    """Whether it is never read from this RPC's request."""
    return field.is_answer or field.name in UNREAD.get(name(rpc), ())


def name(rpc: contracts.Rpc) -> str:
    return rpc.path.rsplit(".", 1)[1]


def fields(rpc: contracts.Rpc) -> list[Field]:
    """Every field of a request that could name something; a message within itself once."""
    return list(_fields(rpc.descriptor.input_type, (), ()))


def _fields(message: Descriptor, path: tuple[FieldDescriptor, ...], seen: tuple[str, ...]) -> Iterator[Field]:
    for each in message.fields:
        inside = each.message_type
        if inside is not None and is_map(each):
            inside = inside.fields_by_name["value"].message_type
        if inside is None:
            of_text = each.type == FieldDescriptor.TYPE_STRING or is_map(each)
            if of_text or (each.name in _NUMBERS and each.cpp_type == FieldDescriptor.CPPTYPE_INT32):
                yield Field((*path, each))
        elif not inside.full_name.startswith("google.") and inside.full_name not in seen:
            yield from _fields(inside, (*path, each), (*seen, inside.full_name))
