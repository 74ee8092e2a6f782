"""Sign-in by OpenID Connect providers: what they may say, what is refused, and whose an identity is."""

import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from google.protobuf.field_mask_pb2 import FieldMask

from deploy.local.mesh import Mesh
from tests.auth.conftest import Database, Find, Invite, MakeUser, UsersStub
from tests.auth.oidc_provider import CLIENT_ID, REDIRECT_URI, Provider, serving
from tests.auth.people import MakePerson, age, session_of
from tests.auth.test_secrets import everything
from tests.conftest import AuthStub, Metadata, bearer
from tests.content.items import refused
from thmnayah.auth.v1.auth_pb2 import GetMeRequest, RefreshTokensRequest, Tokens, User
from thmnayah.auth.v1.oidc_pb2 import (
    BeginIdentityLinkRequest,
    BeginOidcLoginRequest,
    CreateOidcProviderRequest,
    DeleteIdentityRequest,
    DeleteOidcProviderRequest,
    DeleteUserIdentityRequest,
    FinishIdentityLinkRequest,
    FinishOidcLoginRequest,
    GetOidcProviderRequest,
    Identity,
    ListIdentitiesRequest,
    ListOidcProvidersRequest,
    ListUserIdentitiesRequest,
    OidcProvider,
    UpdateOidcProviderRequest,
)
from thmnayah.auth.v1.oidc_pb2_grpc import OidcServiceStub
from thmnayah.auth.v1.users_pb2 import DisableUserRequest, EnableUserRequest, GetUserRequest

if TYPE_CHECKING:
    from thmnayah.auth.v1.oidc_pb2_grpc import OidcServiceAsyncStub

    OidcStub = OidcServiceAsyncStub
else:
    OidcStub = OidcServiceStub

Define = Callable[..., Awaitable[OidcProvider]]


@pytest.fixture(scope="module")
def oidc(edge: grpc.aio.Channel) -> OidcStub:
    return OidcServiceStub(edge)


@pytest.fixture
def company() -> Iterator[Provider]:
    """A provider that has somebody before it whom nobody else has."""
    name = secrets.token_hex(6)
    claims = {"sub": f"sub-{name}", "email": f"{name}@example.com", "email_verified": True, "name": "Layla"}
    with serving(Provider(claims=claims)) as provider:
        yield provider


@pytest.fixture
def define(oidc: OidcStub, admin: Metadata, company: Provider) -> Define:
    """Has the platform know the company's provider."""

    async def make(**settings: Any) -> OidcProvider:
        provider = OidcProvider(
            **{
                "id": f"company-{secrets.token_hex(6)}",
                "issuer": company.issuer,
                "client_id": CLIENT_ID,
                "client_secret": company.client_secret,
                "redirect_uris": [REDIRECT_URI],
                "enabled": True,
                **settings,
            }
        )
        request = CreateOidcProviderRequest(oidc_provider=provider)
        return await oidc.CreateOidcProvider(request, metadata=admin, timeout=10)

    return make


async def sign_in(oidc: OidcStub, company: Provider, provider: OidcProvider, **begin: Any) -> Tokens:
    request = BeginOidcLoginRequest(provider=provider.id, redirect_uri=REDIRECT_URI, **begin)
    begun = await oidc.BeginOidcLogin(request, timeout=10)
    back = company.consent(begun.authorization_uri)
    return await oidc.FinishOidcLogin(FinishOidcLoginRequest(secret=begun.secret, **back), timeout=10)


async def link(oidc: OidcStub, company: Provider, provider: OidcProvider, metadata: Metadata) -> Identity:
    begun = await oidc.BeginIdentityLink(
        BeginIdentityLinkRequest(provider=provider.id, redirect_uri=REDIRECT_URI), metadata=metadata, timeout=10
    )
    request = FinishIdentityLinkRequest(secret=begun.secret, **company.consent(begun.authorization_uri))
    return await oidc.FinishIdentityLink(request, metadata=metadata, timeout=10)


async def me(auth: AuthStub, tokens: Tokens) -> User:
    return await auth.GetMe(GetMeRequest(), metadata=bearer(tokens.access_token), timeout=10)


async def test_somebody_new_gets_an_account_where_the_provider_may_make_one(
    oidc: OidcStub, auth: AuthStub, company: Provider, define: Define, find: Find
) -> None:
    provider = await define(create_users=True)

    tokens = await sign_in(oidc, company, provider, device_name="Layla's phone")

    user = await me(auth, tokens)
    assert (user.email, user.display_name, list(user.roles)) == (company.claims["email"], "Layla", ["reader"])
    again = await sign_in(oidc, company, provider)
    assert (await me(auth, again)).id == user.id
    actions = {event.action for event in await find(f'target = "user/{user.id}"')}
    assert actions == {"user.created", "identity.linked", "session.started"}


async def test_over_rest(rest: httpx.AsyncClient, company: Provider, define: Define) -> None:
    provider = await define(create_users=True)
    body = {"provider": provider.id, "redirectUri": REDIRECT_URI, "browser": True}
    own = {"sec-fetch-site": "same-origin"}
    assert (await rest.post("/v1/auth:beginOidcLogin", json=body)).status_code == 403
    begun = (await rest.post("/v1/auth:beginOidcLogin", json=body, headers=own)).json()

    answer = await rest.post(
        "/v1/auth:finishOidcLogin",
        json={"secret": begun["secret"], **company.consent(begun["authorizationUri"])},
    )

    assert answer.status_code == 200
    assert answer.json()["csrfToken"]
    assert answer.json().get("refreshToken", "") == ""
    assert "HttpOnly" in answer.headers["set-cookie"]


async def test_nobody_unknown_gets_in_by_default(oidc: OidcStub, company: Provider, define: Define) -> None:
    provider = await define()

    assert (await refused(sign_in(oidc, company, provider))).reason == "OIDC_IDENTITY_UNKNOWN"


@pytest.mark.parametrize("create_users", [False, True])
async def test_anothers_address_opens_nobodys_account(
    oidc: OidcStub, company: Provider, define: Define, make_user: MakeUser, create_users: bool
) -> None:
    victim = await make_user()
    provider = await define(create_users=create_users)
    company.claims["email"] = victim.email

    assert (await refused(sign_in(oidc, company, provider))).reason == "OIDC_IDENTITY_UNKNOWN"


@pytest.mark.parametrize("verified", [False, "true", None])
async def test_an_address_that_is_not_verified_makes_no_account(
    oidc: OidcStub, company: Provider, define: Define, verified: object
) -> None:
    provider = await define(create_users=True)
    company.claims["email_verified"] = verified

    assert (await refused(sign_in(oidc, company, provider))).reason == "OIDC_IDENTITY_UNKNOWN"


async def test_somebody_invited_gets_in_after_signing_in_there_anew(
    oidc: OidcStub,
    auth: AuthStub,
    company: Provider,
    define: Define,
    invite: Invite,
    users: UsersStub,
    admin: Metadata,
) -> None:
    invited = await invite(company.claims["email"].partition("@")[0])
    provider = await define()
    company.claims["auth_time"] = int(time.time()) - 3600
    assert (await refused(sign_in(oidc, company, provider))).reason == "OIDC_FRESH_SIGN_IN_NEEDED"
    company.claims["auth_time"] = int(time.time())

    tokens = await sign_in(oidc, company, provider, fresh=True)

    assert (await me(auth, tokens)).id == invited.id
    # It has no password, and is none the less open again after it was closed.
    await users.DisableUser(DisableUserRequest(id=invited.id), metadata=admin, timeout=10)
    assert (await refused(sign_in(oidc, company, provider))).reason == "OIDC_IDENTITY_UNKNOWN"
    await users.EnableUser(EnableUserRequest(id=invited.id), metadata=admin, timeout=10)
    assert (await sign_in(oidc, company, provider)).access_token


async def test_fresh_asks_the_provider_to_ask(oidc: OidcStub, define: Define) -> None:
    provider = await define()
    request = BeginOidcLoginRequest(provider=provider.id, redirect_uri=REDIRECT_URI, fresh=True)

    uri = httpx.URL((await oidc.BeginOidcLogin(request, timeout=10)).authorization_uri)

    assert (uri.params["prompt"], uri.params["max_age"]) == ("login", "300")
    assert uri.params["scope"] == "openid email profile"


def other_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


LIES: dict[str, Callable[[Provider], dict[str, Any]]] = {
    "another nonce": lambda _: {"claims": {"nonce": "another"}},
    "no nonce": lambda _: {"dropped": ("nonce",)},
    "another audience": lambda _: {"claims": {"aud": "another"}},
    "several audiences without azp": lambda _: {"claims": {"aud": [CLIENT_ID, "another"]}},
    "another azp": lambda _: {"claims": {"azp": "another"}},
    "another issuer": lambda _: {"claims": {"iss": "https://login.example.com"}},
    "an issuer with a slash": lambda company: {"claims": {"iss": company.issuer + "/"}},
    "no signature": lambda _: {"algorithm": "none"},
    "a shared secret": lambda company: {"algorithm": "HS256", "key": company.client_secret.ljust(32, "x")},
    "another key": lambda _: {"key": other_key()},
    "an unknown kid": lambda _: {"headers": {"kid": "second"}},
    "over": lambda _: {"claims": {"exp": int(time.time()) - 60}},
    "no end": lambda _: {"dropped": ("exp",)},
    "from the future": lambda _: {"claims": {"iat": int(time.time()) + 600}},
    "no subject": lambda _: {"dropped": ("sub",)},
    "an empty subject": lambda _: {"claims": {"sub": ""}},
    "a long subject": lambda _: {"claims": {"sub": "x" * 256}},
    "an auth_time that is none": lambda _: {"claims": {"auth_time": "yesterday"}},
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
async def test_a_lie_of_the_provider_signs_nobody_in(
    oidc: OidcStub, company: Provider, define: Define, lie: Callable[[Provider], dict[str, Any]]
) -> None:
    provider = await define(create_users=True)
    assert (await sign_in(oidc, company, provider)).access_token
    for name, value in lie(company).items():
        setattr(company, name, company.claims | value if name == "claims" else value)

    assert (await refused(sign_in(oidc, company, provider))).reason == "OIDC_TOKEN_INVALID"


async def test_a_token_for_several_is_for_the_one_it_names(oidc: OidcStub, company: Provider, define: Define) -> None:
    provider = await define(create_users=True)
    company.claims |= {"aud": [CLIENT_ID, "another"], "azp": CLIENT_ID}

    assert (await sign_in(oidc, company, provider)).access_token


async def test_a_sign_in_is_for_its_beginner_and_for_once(
    oidc: OidcStub, company: Provider, define: Define, auth_db: Database
) -> None:
    provider = await define(create_users=True)
    request = BeginOidcLoginRequest(provider=provider.id, redirect_uri=REDIRECT_URI)

    async def finish(secret: str, back: dict[str, str]) -> Tokens:
        return await oidc.FinishOidcLogin(FinishOidcLoginRequest(secret=secret, **back), timeout=10)

    first, second = [await oidc.BeginOidcLogin(request, timeout=10) for _ in range(2)]
    back, other = company.consent(first.authorization_uri), company.consent(second.authorization_uri)
    # Another's secret, whose sign-in is over with that; then both used up.
    assert (await refused(finish(second.secret, back))).reason == "OIDC_LOGIN_INVALID"
    assert (await refused(finish(second.secret, other))).reason == "OIDC_LOGIN_INVALID"
    assert (await finish(first.secret, back)).access_token
    assert (await refused(finish(first.secret, back))).reason == "OIDC_LOGIN_INVALID"

    third = await oidc.BeginOidcLogin(request, timeout=10)
    stolen = company.consent(third.authorization_uri) | {"code": back["code"]}
    assert (await refused(finish(third.secret, stolen))).reason == "OIDC_REFUSED"
    # A code of another sign-in: its PKCE verifier is not this one's.
    fourth, fifth = [await oidc.BeginOidcLogin(request, timeout=10) for _ in range(2)]
    injected = company.consent(fourth.authorization_uri) | {"code": company.consent(fifth.authorization_uri)["code"]}
    assert (await refused(finish(fourth.secret, injected))).reason == "OIDC_REFUSED"

    late = await oidc.BeginOidcLogin(request, timeout=10)
    await auth_db.execute(
        "UPDATE oidc_logins SET expire_time = now() - interval '1 second' WHERE provider_id = $1", provider.id
    )
    assert (await refused(finish(late.secret, company.consent(late.authorization_uri)))).reason == "OIDC_LOGIN_INVALID"


async def test_only_who_is_told_so_comes_back_from_the_issuer(
    oidc: OidcStub, company: Provider, define: Define
) -> None:
    company.metadata["authorization_response_iss_parameter_supported"] = True
    provider = await define(create_users=True)

    async def attempt(iss: str) -> Tokens:
        request = BeginOidcLoginRequest(provider=provider.id, redirect_uri=REDIRECT_URI)
        begun = await oidc.BeginOidcLogin(request, timeout=10)
        back = company.consent(begun.authorization_uri)
        return await oidc.FinishOidcLogin(FinishOidcLoginRequest(secret=begun.secret, iss=iss, **back), timeout=10)

    for iss in ("", "https://login.example.com"):
        assert (await refused(attempt(iss))).reason == "OIDC_TOKEN_INVALID"
    assert (await attempt(company.issuer)).access_token


@pytest.mark.parametrize("uri", [REDIRECT_URI + "/", REDIRECT_URI + "?x=y", "https://evil.example.com/callback"])
async def test_a_redirect_uri_must_be_in_the_list(oidc: OidcStub, define: Define, uri: str) -> None:
    provider = await define()

    request = BeginOidcLoginRequest(provider=provider.id, redirect_uri=uri)
    assert "redirectUri" in (await refused(oidc.BeginOidcLogin(request, timeout=10))).violations


async def test_a_provider_that_is_not_enabled_signs_nobody_in(oidc: OidcStub, define: Define) -> None:
    provider = await define(enabled=False)
    request = BeginOidcLoginRequest(provider=provider.id, redirect_uri=REDIRECT_URI)

    assert (await refused(oidc.BeginOidcLogin(request, timeout=10))).reason == "OIDC_PROVIDER_NOT_FOUND"


HUGE = b'{"keys": [' + b'{"kty": "RSA"},' * 100_000 + b"{}]}"
TROUBLES: dict[str, tuple[str, tuple[int, bytes]]] = {
    "no discovery": ("/.well-known/openid-configuration", (500, b"{}")),
    "discovery that is no JSON": ("/.well-known/openid-configuration", (200, b"<html>")),
    "discovery that is a list": ("/.well-known/openid-configuration", (200, b"[]")),
    "discovery without endpoints": ("/.well-known/openid-configuration", (200, b"{}")),
    "discovery elsewhere": ("/.well-known/openid-configuration", (302, b"/elsewhere")),
    "huge keys": ("/jwks", (200, HUGE)),
    "keys elsewhere": ("/jwks", (302, b"/elsewhere")),
    "no token endpoint": ("/token", (503, b"")),
    "no ID token": ("/token", (200, b"{}")),
    "a client that it does not know": ("/token", (401, b'{"error": "invalid_client"}')),
}


@pytest.mark.parametrize(("path", "answer"), TROUBLES.values(), ids=TROUBLES.keys())
async def test_a_provider_in_trouble_is_said_to_be(
    oidc: OidcStub, company: Provider, define: Define, path: str, answer: tuple[int, bytes]
) -> None:
    provider = await define(create_users=True)
    company.answers[path] = answer

    refusal = await refused(sign_in(oidc, company, provider))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "OIDC_PROVIDER_UNAVAILABLE")
    assert path in company.asked
    assert "/elsewhere" not in company.asked


async def test_a_provider_that_is_away_is_a_503(rest: httpx.AsyncClient, define: Define, company: Provider) -> None:
    with serving(Provider()) as gone:
        provider = await define(issuer=gone.issuer)

    answer = await rest.post("/v1/auth:beginOidcLogin", json={"provider": provider.id, "redirectUri": REDIRECT_URI})

    assert answer.status_code == 503
    assert answer.json()["details"][0]["metadata"] == {"provider": provider.id}
    assert not company.asked


async def test_another_issuer_in_the_discovery_is_not_believed(
    oidc: OidcStub, company: Provider, define: Define
) -> None:
    provider = await define(create_users=True)
    company.metadata["issuer"] = "https://login.example.com"

    assert (await refused(sign_in(oidc, company, provider))).reason == "OIDC_PROVIDER_UNAVAILABLE"


@pytest.mark.parametrize("name", ["token_endpoint", "jwks_uri", "authorization_endpoint"])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_provider_sends_nobody_into_the_private_network(
    oidc: OidcStub, company: Provider, define: Define, name: str, scheme: str
) -> None:
    with serving(Provider()) as inside:
        company.metadata[name] = inside.issuer.replace("http://127.0.0.1", f"{scheme}://localhost")
        provider = await define(create_users=True)

        if (name, scheme) == ("authorization_endpoint", "https"):
            return  # the person's browser goes there, and not this platform
        assert (await refused(sign_in(oidc, company, provider))).reason == "OIDC_PROVIDER_UNAVAILABLE"
    assert not inside.asked


@pytest.mark.parametrize(
    "issuer",
    ["https://localhost:1", "https://10.0.0.1", "https://169.254.169.254", "https://[::ffff:127.0.0.1]:1"],
)
async def test_an_issuer_in_the_private_network_is_not_called(oidc: OidcStub, define: Define, issuer: str) -> None:
    provider = await define(issuer=issuer)
    request = BeginOidcLoginRequest(provider=provider.id, redirect_uri=REDIRECT_URI)

    assert (await refused(oidc.BeginOidcLogin(request, timeout=10))).reason == "OIDC_PROVIDER_UNAVAILABLE"


@pytest.mark.parametrize(
    "issuer",
    ["http://login.example.com", "http://localhost:1", "https://a@login.example.com", "https://login.example.com/?x"],
)
async def test_an_issuer_without_tls_is_not_taken(define: Define, issuer: str) -> None:
    assert "oidcProvider.issuer" in (await refused(define(issuer=issuer))).violations


async def test_groups_give_roles_at_each_sign_in(
    oidc: OidcStub, auth: AuthStub, company: Provider, define: Define, users: UsersStub, admin: Metadata
) -> None:
    mapping = {"Desk": "editor", "Readers": "reader", "Gone": "publisher"}
    provider = await define(create_users=True, groups_claim="teams", group_roles=mapping)
    assert (await refused(sign_in(oidc, company, provider))).reason == "OIDC_NO_ROLE"
    company.claims["teams"] = ["Desk", "Others"]
    first = await sign_in(oidc, company, provider)
    user = await me(auth, first)
    assert list(user.roles) == ["editor"]

    company.claims["teams"] = ["Readers"]
    second = await sign_in(oidc, company, provider)

    assert list((await me(auth, second)).roles) == ["reader"]
    refresh = RefreshTokensRequest(refresh_token=first.refresh_token)
    assert (await refused(auth.RefreshTokens(refresh, timeout=10))).reason == "REFRESH_TOKEN_INVALID"
    # The same groups once more end nothing; none at all takes the roles away.
    await sign_in(oidc, company, provider)
    kept = RefreshTokensRequest(refresh_token=second.refresh_token)
    assert (await auth.RefreshTokens(kept, timeout=10)).access_token
    company.claims["teams"] = "Desk"
    assert (await refused(sign_in(oidc, company, provider))).reason == "OIDC_NO_ROLE"
    assert not (await users.GetUser(GetUserRequest(id=user.id), metadata=admin, timeout=10)).roles


async def test_a_second_factor_is_asked_for_here_too(
    oidc: OidcStub, company: Provider, define: Define, make_person: MakePerson
) -> None:
    person, provider = await make_person(), await define()
    await link(oidc, company, provider, person.metadata)
    await person.add_totp()

    tokens = await sign_in(oidc, company, provider)

    assert not tokens.access_token
    assert (await person.verify(tokens.mfa, totp_code=person.code(1))).access_token


async def test_an_own_identity_is_linked_and_unlinked(
    oidc: OidcStub, auth: AuthStub, company: Provider, define: Define, make_person: MakePerson, find: Find
) -> None:
    person, provider = await make_person(), await define()
    before = person.tokens
    await person.login()

    identity = await link(oidc, company, provider, person.metadata)

    assert (identity.issuer, identity.subject) == (company.issuer, company.claims["sub"])
    assert (await refused(person.refresh(before))).reason == "REFRESH_TOKEN_INVALID"
    assert (await me(auth, await sign_in(oidc, company, provider))).id == person.user.id
    other = await make_person()
    assert (await refused(link(oidc, company, provider, other.metadata))).reason == "IDENTITY_TAKEN"
    request = DeleteIdentityRequest(id=identity.id)
    call = oidc.DeleteIdentity(request, metadata=other.metadata, timeout=10)
    assert (await refused(call)).reason == "IDENTITY_NOT_FOUND"
    listed = await oidc.ListIdentities(ListIdentitiesRequest(), metadata=person.metadata, timeout=10)
    assert [each.id for each in listed.identities] == [identity.id]
    assert listed.identities[0].HasField("use_time")

    await oidc.DeleteIdentity(request, metadata=person.metadata, timeout=10)

    assert (await refused(sign_in(oidc, company, provider))).reason == "OIDC_IDENTITY_UNKNOWN"
    actions = [event.action for event in await find(f'target = "user/{person.user.id}"')]
    assert {"identity.linked", "identity.unlinked"} <= {*actions}


async def test_linking_needs_a_fresh_sign_in_and_its_session(
    oidc: OidcStub, company: Provider, define: Define, make_person: MakePerson, auth_db: Database
) -> None:
    person, thief, provider = await make_person(), await make_person(), await define()
    request = BeginIdentityLinkRequest(provider=provider.id, redirect_uri=REDIRECT_URI)
    begun = await oidc.BeginIdentityLink(request, metadata=person.metadata, timeout=10)
    back = FinishIdentityLinkRequest(secret=begun.secret, **company.consent(begun.authorization_uri))

    taken = oidc.FinishIdentityLink(back, metadata=thief.metadata, timeout=10)
    assert (await refused(taken)).reason == "OIDC_LOGIN_INVALID"
    as_login = FinishOidcLoginRequest(secret=back.secret, state=back.state, code=back.code)
    assert (await refused(oidc.FinishOidcLogin(as_login, timeout=10))).reason == "OIDC_LOGIN_INVALID"
    identity = await oidc.FinishIdentityLink(back, metadata=person.metadata, timeout=10)
    assert session_of(person.tokens)
    begun = await oidc.BeginIdentityLink(request, metadata=person.metadata, timeout=10)
    late = FinishIdentityLinkRequest(secret=begun.secret, **company.consent(begun.authorization_uri))
    await age(auth_db, person)
    for call in (
        oidc.BeginIdentityLink(request, metadata=person.metadata, timeout=10),
        oidc.FinishIdentityLink(late, metadata=person.metadata, timeout=10),
        oidc.DeleteIdentity(DeleteIdentityRequest(id=identity.id), metadata=person.metadata, timeout=10),
    ):
        assert (await refused(call)).reason == "FRESH_SIGN_IN_NEEDED"


async def test_the_last_way_to_sign_in_stays(oidc: OidcStub, company: Provider, define: Define) -> None:
    tokens = await sign_in(oidc, company, await define(create_users=True))
    metadata = bearer(tokens.access_token)
    (identity,) = (await oidc.ListIdentities(ListIdentitiesRequest(), metadata=metadata, timeout=10)).identities

    call = oidc.DeleteIdentity(DeleteIdentityRequest(id=identity.id), metadata=metadata, timeout=10)

    assert (await refused(call)).reason == "LAST_SIGN_IN"


async def test_an_administrator_unlinks_anothers_identity_even_the_last_way_in(
    rest: httpx.AsyncClient,
    oidc: OidcStub,
    auth: AuthStub,
    company: Provider,
    define: Define,
    admin: Metadata,
    admin_token: str,
    make_user: MakeUser,
    find: Find,
) -> None:
    provider, other = await define(create_users=True), await make_user()
    tokens = await sign_in(oidc, company, provider)
    user = await me(auth, tokens)
    owned = ListUserIdentitiesRequest(user_id=user.id)

    (identity,) = (await oidc.ListUserIdentities(owned, metadata=admin, timeout=10)).identities

    assert (identity.issuer, identity.subject) == (company.issuer, company.claims["sub"])
    for user_id, reason in ((other.id, "IDENTITY_NOT_FOUND"), (identity.id, "USER_NOT_FOUND")):
        request = DeleteUserIdentityRequest(user_id=user_id, id=identity.id)
        assert (await refused(oidc.DeleteUserIdentity(request, metadata=admin, timeout=10))).reason == reason
    nobodys = oidc.ListUserIdentities(ListUserIdentitiesRequest(user_id=identity.id), metadata=admin, timeout=10)
    assert (await refused(nobodys)).reason == "USER_NOT_FOUND"
    gone = await rest.delete(
        f"/v1/users/{user.id}/identities/{identity.id}", headers={"authorization": f"Bearer {admin_token}"}
    )
    assert gone.status_code == 200, gone.text
    assert not (await oidc.ListUserIdentities(owned, metadata=admin, timeout=10)).identities
    refresh = RefreshTokensRequest(refresh_token=tokens.refresh_token)
    assert (await refused(auth.RefreshTokens(refresh, timeout=10))).reason == "REFRESH_TOKEN_INVALID"
    (event,) = await find(f'target = "user/{user.id}" AND action = identity.unlinked')
    assert event.actor not in ("", user.id)
    assert event.details["issuer"] == company.issuer


async def test_everybody_may_know_the_providers_that_sign_people_in(rest: httpx.AsyncClient, define: Define) -> None:
    names = {"ar": "الشركة", "en": "Company"}
    shown, plain, hidden = await define(display_name=names), await define(), await define(enabled=False)

    answer = await rest.get("/v1/signInProviders")

    assert answer.status_code == 200
    told = answer.json()["signInProviders"]
    assert [each["id"] for each in told] == sorted(each["id"] for each in told)
    ours = {each.pop("id"): each for each in told if each["id"] in (shown.id, plain.id, hidden.id)}
    assert ours == {shown.id: {"displayName": names}, plain.id: {"displayName": {}}}


async def test_administrators_define_change_and_remove_providers(
    oidc: OidcStub, company: Provider, define: Define, admin: Metadata, auth_db: Database, find: Find
) -> None:
    provider = await define()
    assert not provider.client_secret
    assert (list(provider.scopes), provider.groups_claim) == (["email", "profile"], "groups")
    sealed = await auth_db.fetchval("SELECT client_secret FROM oidc_providers WHERE id = $1", provider.id)
    assert company.client_secret.encode() not in sealed
    assert (await refused(define(id=provider.id))).reason == "OIDC_PROVIDER_EXISTS"
    assert "oidcProvider.clientSecret" in (await refused(define(client_secret=""))).violations
    assert (await refused(define(group_roles={"a": "no-role"}))).reason == "INVALID_REQUEST"

    async def change(*paths: str, **values: Any) -> OidcProvider:
        request = UpdateOidcProviderRequest(
            oidc_provider=OidcProvider(id=provider.id, **values), update_mask=FieldMask(paths=paths)
        )
        return await oidc.UpdateOidcProvider(request, metadata=admin, timeout=10)

    changed = await change(
        "create_users", "display_name", create_users=True, display_name={"ar": "الشركة"}, etag=provider.etag
    )
    assert (changed.create_users, dict(changed.display_name)) == (True, {"ar": "الشركة"})
    assert (await refused(change("enabled", etag=provider.etag))).reason == "ETAG_MISMATCH"
    assert "updateMask" in (await refused(change("create_time"))).violations
    elsewhere = await refused(change("issuer", issuer="https://evil.example.com"))
    assert "oidcProvider.clientSecret" in elsewhere.violations
    # The secret is the one from before.
    assert (await sign_in(oidc, company, provider)).access_token
    company.metadata["token_endpoint_auth_methods_supported"] = ["client_secret_post"]
    read = await oidc.GetOidcProvider(GetOidcProviderRequest(id=provider.id), metadata=admin, timeout=10)
    assert read == changed
    listed = await oidc.ListOidcProviders(ListOidcProvidersRequest(), metadata=admin, timeout=10)
    assert changed in listed.oidc_providers

    request = DeleteOidcProviderRequest(id=provider.id)
    await oidc.DeleteOidcProvider(request, metadata=admin, timeout=10)

    gone = oidc.DeleteOidcProvider(request, metadata=admin, timeout=10)
    assert (await refused(gone)).reason == "OIDC_PROVIDER_NOT_FOUND"
    actions = [event.action for event in await find(f'target = "oidc_provider/{provider.id}"')]
    assert actions == [f"oidc_provider.{each}" for each in ("deleted", "updated", "created")]


async def test_what_is_secret_is_written_nowhere(oidc: OidcStub, company: Provider, define: Define, mesh: Mesh) -> None:
    provider = await define(create_users=True)
    request = BeginOidcLoginRequest(provider=provider.id, redirect_uri=REDIRECT_URI)
    used = {"client secret": company.client_secret}
    for number in range(4):
        begun = await oidc.BeginOidcLogin(request, timeout=10)
        asked = httpx.URL(begun.authorization_uri).params
        back = company.consent(begun.authorization_uri)
        used |= {f"{name} {number}": asked[name] for name in ("state", "nonce")}
        used |= {f"secret {number}": begun.secret, f"code {number}": back["code"]}
        # One that goes right, a lie, a code that is not taken, and one that is left.
        company.claims["aud"] = "another" if number == 1 else CLIENT_ID
        if number == 2:
            company.codes.clear()
        if number < 3:
            call = oidc.FinishOidcLogin(FinishOidcLoginRequest(secret=begun.secret, **back), timeout=10)
            await (refused(call) if number else call)
    used |= {f"ID token {number}": token for number, token in enumerate(company.told)}
    assert len(company.told) == 2

    texts = {path.name: path.read_text("utf-8", "replace") for path in mesh.supervisor.log_dir.iterdir()}
    texts["database"] = await everything(mesh, "auth")

    assert [(name, place) for name, value in used.items() for place, text in texts.items() if value in text] == []
    assert provider.id in texts["auth.log"]
    assert provider.id in texts["database"]


async def test_a_role_may_be_mapped_by_its_old_name(define: Define) -> None:
    assert (await define(group_roles={"Admins": "admin"})).group_roles == {"Admins": "administrator"}


async def test_a_client_secret_may_go_into_the_body(oidc: OidcStub, company: Provider, define: Define) -> None:
    company.metadata["token_endpoint_auth_methods_supported"] = ["client_secret_post"]

    assert (await sign_in(oidc, company, await define(create_users=True))).access_token
