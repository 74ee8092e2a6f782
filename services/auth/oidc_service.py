"""OidcService: each RPC's transaction, its functions and its event. No transaction waits for a provider."""

from google.protobuf.empty_pb2 import Empty

from libs import etags, outbox, rpc, text
from libs.db import Connection, Pool, connection, transaction
from libs.errors import FailedPrecondition, Failure, Forbidden, InvalidArgument, Unauthenticated
from libs.identity import caller
from libs.rpc import Context
from services.auth import audit, browsers, identities, mfa, oidc_logins, oidc_providers, people, roles, sessions
from services.auth.challenges import Device
from services.auth.oidc_client import Client, Person
from services.auth.oidc_logins import Secrets
from services.auth.oidc_providers import Settings
from services.auth.service import AuthService
from thmnayah.auth.v1 import auth_pb2, oidc_pb2, oidc_pb2_grpc
from thmnayah.auth.v1.users_pb2 import InviteUserRequest, UserUpdated


class OidcService(oidc_pb2_grpc.OidcServiceServicer):
    """The servicer of thmnayah.auth.v1.OidcService, where each RPC is described."""

    def __init__(self, db: Pool, auth: AuthService, client: Client) -> None:
        self.db = db
        self.auth = auth
        self.client = client

    async def CreateOidcProvider(
        self, request: oidc_pb2.CreateOidcProviderRequest, context: Context
    ) -> oidc_pb2.OidcProvider:
        async with transaction(self.db) as conn:
            provider = await oidc_providers.create(conn, request.oidc_provider, self.client, self.auth.terms.secret_key)
            await audit.record(conn, "oidc_provider.created", target=f"oidc_provider/{provider.id}")
        return provider

    async def GetOidcProvider(
        self, request: oidc_pb2.GetOidcProviderRequest, context: Context
    ) -> oidc_pb2.OidcProvider:
        async with connection(self.db) as conn:
            return await etags.tagged(await oidc_providers.get(conn, request.id), context)

    async def ListOidcProviders(
        self, request: oidc_pb2.ListOidcProvidersRequest, context: Context
    ) -> oidc_pb2.ListOidcProvidersResponse:
        async with connection(self.db) as conn:
            return await oidc_providers.list_all(conn)

    async def UpdateOidcProvider(
        self, request: oidc_pb2.UpdateOidcProviderRequest, context: Context
    ) -> oidc_pb2.OidcProvider:
        async with transaction(self.db) as conn:
            provider = await oidc_providers.update(
                conn,
                request.oidc_provider,
                self.client,
                self.auth.terms.secret_key,
                paths=request.update_mask.paths,
                etag=etags.given(request.oidc_provider.etag),
            )
            await audit.record(conn, "oidc_provider.updated", target=f"oidc_provider/{provider.id}")
        return provider

    async def DeleteOidcProvider(self, request: oidc_pb2.DeleteOidcProviderRequest, context: Context) -> Empty:
        async with transaction(self.db) as conn:
            await oidc_providers.delete(conn, request.id)
            await audit.record(conn, "oidc_provider.deleted", target=f"oidc_provider/{request.id}")
        return Empty()

    async def ListSignInProviders(
        self, request: oidc_pb2.ListSignInProvidersRequest, context: Context
    ) -> oidc_pb2.ListSignInProvidersResponse:
        async with connection(self.db) as conn:
            return await oidc_providers.list_enabled(conn)

    async def BeginOidcLogin(self, request: oidc_pb2.BeginOidcLoginRequest, context: Context) -> oidc_pb2.OidcRedirect:
        if request.browser:
            browsers.check_origin()
        device = Device(text.nfc(request.device_name), browser=request.browser)
        async with transaction(self.db) as conn:
            settings = await self._settings(conn, request.provider, request.redirect_uri)
            secret, expire_time = await oidc_logins.begin(conn, request.provider, request.redirect_uri, device)
        uri = await self._authorization_uri(settings, request.redirect_uri, secret, fresh=request.fresh)
        return oidc_pb2.OidcRedirect(authorization_uri=uri, secret=secret, expire_time=expire_time)

    async def FinishOidcLogin(self, request: oidc_pb2.FinishOidcLoginRequest, context: Context) -> auth_pb2.Tokens:
        try:
            settings, person, device = await self._come_back(request)
            async with transaction(self.db) as conn:
                named = await self._roles(conn, settings, person)
                user_id = await self._owner(conn, settings, person, named)
                outcome = None
                if named is not None:
                    await _set_roles(conn, user_id, named)
                if named is None or named:
                    outcome = await self.auth.finish(conn, auth_pb2.User(id=user_id), device, proven=False)
        except (Unauthenticated, FailedPrecondition):  # denials are put on record as such
            async with transaction(self.db) as conn:
                await audit.record(conn, "session.started", outcome="FAILED", details={"by": "oidc"})
            raise
        if outcome is None:
            raise _no_role()
        return await self.auth.answer(outcome, context)

    async def ListIdentities(
        self, request: oidc_pb2.ListIdentitiesRequest, context: Context
    ) -> oidc_pb2.ListIdentitiesResponse:
        async with connection(self.db) as conn:
            return oidc_pb2.ListIdentitiesResponse(identities=await identities.of(conn, caller.get().user_id))

    async def BeginIdentityLink(
        self, request: oidc_pb2.BeginIdentityLinkRequest, context: Context
    ) -> oidc_pb2.OidcRedirect:
        async with transaction(self.db) as conn:
            await mfa.require_fresh_sign_in(conn)
            settings = await self._settings(conn, request.provider, request.redirect_uri)
            secret, expire_time = await oidc_logins.begin(
                conn, request.provider, request.redirect_uri, Device(), session_id=caller.get().session_id
            )
        uri = await self._authorization_uri(settings, request.redirect_uri, secret, fresh=False)
        return oidc_pb2.OidcRedirect(authorization_uri=uri, secret=secret, expire_time=expire_time)

    async def FinishIdentityLink(
        self, request: oidc_pb2.FinishIdentityLinkRequest, context: Context
    ) -> oidc_pb2.Identity:
        me = caller.get()
        settings, person, _ = await self._come_back(request, session_id=me.session_id)
        async with transaction(self.db) as conn:
            await mfa.lock(conn, me.user_id)
            await mfa.require_fresh_sign_in(conn)
            identity = await identities.link(conn, me.user_id, settings.party.issuer, person.subject)
            await sessions.end_all(conn, me.user_id, but=me.session_id)
            await _record_link(conn, "identity.linked", me.user_id, identity, actor=me.user_id)
        return identity

    async def DeleteIdentity(self, request: oidc_pb2.DeleteIdentityRequest, context: Context) -> Empty:
        me = caller.get()
        async with transaction(self.db) as conn:
            await mfa.lock(conn, me.user_id)
            await mfa.require_fresh_sign_in(conn)
            identity = await identities.unlink(conn, me.user_id, request.id)
            await identities.require_another_way_in(conn, me.user_id)
            await sessions.end_all(conn, me.user_id, but=me.session_id)
            await _record_link(conn, "identity.unlinked", me.user_id, identity, actor=me.user_id)
        return Empty()

    async def ListUserIdentities(
        self, request: oidc_pb2.ListUserIdentitiesRequest, context: Context
    ) -> oidc_pb2.ListUserIdentitiesResponse:
        async with connection(self.db) as conn:
            user = await people.get(conn, request.user_id)
            return oidc_pb2.ListUserIdentitiesResponse(identities=await identities.of(conn, user.id))

    async def DeleteUserIdentity(self, request: oidc_pb2.DeleteUserIdentityRequest, context: Context) -> Empty:
        async with transaction(self.db) as conn:
            await mfa.lock(conn, request.user_id)
            identity = await identities.unlink(conn, request.user_id, request.id)
            await sessions.end_all(conn, request.user_id)
            await _record_link(conn, "identity.unlinked", request.user_id, identity, actor=caller.get().user_id)
        return Empty()

    async def _settings(self, conn: Connection, provider_id: str, redirect_uri: str) -> Settings:
        settings = await oidc_providers.settings(conn, provider_id, self.auth.terms.secret_key)
        if redirect_uri not in settings.provider.redirect_uris:
            raise InvalidArgument({"redirectUri": "is not one of the provider's"})
        return settings

    async def _authorization_uri(self, settings: Settings, redirect_uri: str, secret: str, *, fresh: bool) -> str:
        made = Secrets.of(secret, self.auth.terms)
        return await self.client.authorization_uri(
            settings.party,
            redirect_uri=redirect_uri,
            scopes=list(settings.provider.scopes),
            state=made.state,
            nonce=made.nonce,
            verifier=made.verifier,
            fresh=fresh,
        )

    async def _come_back(
        self, request: oidc_pb2.FinishOidcLoginRequest | oidc_pb2.FinishIdentityLinkRequest, session_id: str = ""
    ) -> tuple[Settings, Person, Device]:
        """By which provider somebody comes back, and whom it says that is."""
        settings = None
        async with transaction(self.db) as conn:
            login = await oidc_logins.take(conn, request.secret, request.state, self.auth.terms, session_id=session_id)
            if login is not None:
                settings = await self._settings(conn, login.provider_id, login.redirect_uri)
        if login is None or settings is None:
            raise oidc_logins.invalid()
        person = await self.client.person(
            settings.party,
            code=request.code,
            redirect_uri=login.redirect_uri,
            nonce=login.secrets.nonce,
            verifier=login.secrets.verifier,
            issuer=request.iss,
        )
        return settings, person, login.device

    async def _roles(self, conn: Connection, settings: Settings, person: Person) -> list[str] | None:
        """The roles that somebody's groups give; None where groups give none to anybody."""
        mapping = settings.provider.group_roles
        if not mapping:
            return None
        groups = person.groups(settings.provider.groups_claim)
        return await roles.existing(conn, sorted({mapping[group] for group in groups if group in mapping}))

    async def _owner(self, conn: Connection, settings: Settings, person: Person, named: list[str] | None) -> str:
        """The id of the user whom somebody at the provider is, if need be from now on."""
        user_id = await identities.use(conn, settings.party.issuer, person.subject)
        if user_id:
            if (await people.get(conn, user_id)).state != auth_pb2.User.ACTIVE:
                raise _unknown()
            return user_id
        user = await people.accept(conn, person.email) if person.email else None
        if user is not None:
            if not person.fresh:
                raise FailedPrecondition(
                    "OIDC_FRESH_SIGN_IN_NEEDED",
                    "sign in at the provider anew",
                    "سجّل الدخول لدى المزوّد من جديد",
                )
            event: UserUpdated | auth_pb2.UserCreated = UserUpdated(user=user)
        elif settings.provider.create_users and person.email:
            if named == []:
                raise _no_role()
            given = named or ["reader"]
            rpc.validate(InviteUserRequest(email=person.email, display_name=person.name, roles=given))
            user = await people.add(
                conn, email=person.email, display_name=person.name, roles=given, locale="", state="ACTIVE"
            )
            if user is None:
                raise _unknown()
            event = auth_pb2.UserCreated(user=user)
            details = {"roles": " ".join(user.roles)}
            await audit.record(conn, "user.created", target=f"user/{user.id}", actor=user.id, details=details)
        else:
            raise _unknown()
        await outbox.add(conn, event, about=user.id)
        identity = await identities.link(conn, user.id, settings.party.issuer, person.subject)
        await _record_link(conn, "identity.linked", user.id, identity, actor=user.id)
        await identities.use(conn, settings.party.issuer, person.subject)
        return str(user.id)


async def _set_roles(conn: Connection, user_id: str, named: list[str]) -> None:
    user = await people.set_roles(conn, user_id, named)
    if user is not None:
        await outbox.add(conn, UserUpdated(user=user), about=user_id)
        details = {"roles": " ".join(named), "by": "oidc"}
        await audit.record(conn, "user.updated", target=f"user/{user_id}", actor=user_id, details=details)


async def _record_link(conn: Connection, action: str, user_id: str, identity: oidc_pb2.Identity, *, actor: str) -> None:
    details = {"issuer": identity.issuer, "subject": identity.subject}
    await audit.record(conn, action, target=f"user/{user_id}", actor=actor, details=details)


def _unknown() -> Failure:
    return Unauthenticated(
        "OIDC_IDENTITY_UNKNOWN",
        "no account is linked with this identity; sign in otherwise and link it, or ask for an invitation",
        "لا يوجد حساب مرتبط بهذه الهوية؛ سجّل الدخول بطريقة أخرى واربطها، أو اطلب دعوة",
    )


def _no_role() -> Failure:
    return Forbidden("OIDC_NO_ROLE", "none of your groups has a role here", "ليس لأي من مجموعاتك دور هنا")
