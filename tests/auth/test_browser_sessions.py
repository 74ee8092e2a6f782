"""Sessions of pages: the refresh token in a cookie, which only a page of ours can have used."""

from dataclasses import dataclass
from http.cookies import SimpleCookie

import grpc
import httpx
import pytest

from deploy.local.mesh import Mesh
from services.auth.browsers import CSRF_COOKIE, DEVICE_COOKIE, REFRESH_COOKIE
from tests.auth.conftest import PASSWORD, MakeUser, sign_in
from tests.conftest import AuthStub
from tests.content.items import refused
from tests.gateway.corpus import problem
from thmnayah.auth.v1.auth_pb2 import LoginRequest, RefreshTokensRequest

OUR_PAGE = {"sec-fetch-site": "same-origin"}


@dataclass
class Page:
    """What a browser holds for a page of ours.

    httpx would not send a Secure cookie without TLS, as browsers do to localhost.
    """

    rest: httpx.AsyncClient
    refresh_token: str = ""
    csrf_token: str = ""
    access_token: str = ""

    async def post(self, verb: str, headers: dict[str, str], body: object = None) -> httpx.Response:
        cookie = (
            {"cookie": f'a={{"b": 1}}; {REFRESH_COOKIE}={self.refresh_token}; other=1'} if self.refresh_token else {}
        )
        return await self.rest.post(f"/v1/auth:{verb}", json=body or {}, headers=cookie | headers)

    async def renew(self) -> httpx.Response:
        answer = await self.post("refresh", OUR_PAGE | {"x-csrf-token": self.csrf_token})
        self.take(answer)
        return answer

    def take(self, answer: httpx.Response) -> None:
        assert answer.status_code == 200, answer.text
        kept = cookies(answer)
        self.refresh_token, self.csrf_token = kept[0][REFRESH_COOKIE].value, kept[2][CSRF_COOKIE].value
        self.access_token = answer.json()["accessToken"]


def cookies(answer: httpx.Response) -> list[SimpleCookie]:
    return [SimpleCookie(each) for each in answer.headers.get_list("set-cookie")]


@pytest.fixture
async def page(rest: httpx.AsyncClient, make_user: MakeUser) -> Page:
    """A page that is signed in."""
    user = await make_user()
    page = Page(rest)
    credentials = {"email": user.email, "password": PASSWORD, "browser": True}
    answer = await page.post("login", OUR_PAGE, credentials)
    assert answer.json()["refreshToken"] == ""
    page.take(answer)
    assert answer.json()["csrfToken"] == page.csrf_token
    return page


async def test_a_refresh_token_is_where_scripts_cannot_read_it(page: Page) -> None:
    answer = await page.renew()

    *refresh, csrf = cookies(answer)
    assert [each[REFRESH_COOKIE]["path"] for each in refresh] == ["/v1/auth:refresh", "/v1/auth:logout"]
    for each in refresh:
        kept = each[REFRESH_COOKIE]
        assert (kept["httponly"], kept["secure"], kept["samesite"]) == (True, True, "Strict")
        assert kept["max-age"] == "604800"
        assert len(kept.value) == 43
    kept = csrf[CSRF_COOKIE]
    assert (kept["httponly"], kept["secure"], kept["samesite"], kept["path"]) == ("", True, "Strict", "/")
    assert page.refresh_token not in answer.text


async def test_a_page_refreshes_and_signs_out(page: Page) -> None:
    csrf_token = page.csrf_token
    await page.renew()
    await page.renew()
    assert page.csrf_token == csrf_token  # the session's
    me = await page.rest.get("/v1/me", headers={"authorization": f"Bearer {page.access_token}"})
    assert me.status_code == 200

    answer = await page.post("logout", OUR_PAGE | {"x-csrf-token": csrf_token})

    assert answer.status_code == 200
    assert [morsel["max-age"] for each in cookies(answer) for morsel in each.values()] == ["0", "0", "0"]
    after = await page.post("refresh", OUR_PAGE | {"x-csrf-token": csrf_token})
    assert problem(after.status_code, after.headers, after.content).reason == "REFRESH_TOKEN_INVALID"


@pytest.mark.parametrize("verb", ["refresh", "logout"])
@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "CROSS_SITE"),
        ({"sec-fetch-site": "cross-site"}, "CROSS_SITE"),
        ({"sec-fetch-site": "same-site"}, "CROSS_SITE"),
        ({"sec-fetch-site": "none"}, "CROSS_SITE"),
        ({"origin": "https://evil.example"}, "CROSS_SITE"),
        ({"origin": "null"}, "CROSS_SITE"),
        ({"origin": "http://["}, "CROSS_SITE"),
        ({"origin": "https://evil.example", "x-forwarded-host": "evil.example"}, "CROSS_SITE"),
        ({"sec-fetch-site": "cross-site", "origin": "http://{host}"}, "CROSS_SITE"),
        (OUR_PAGE | {"x-csrf-token": ""}, "CSRF_TOKEN_INVALID"),
        (OUR_PAGE | {"x-csrf-token": "x" * 43}, "CSRF_TOKEN_INVALID"),
    ],
)
async def test_another_sites_page_can_do_nothing_with_the_cookie(
    mesh: Mesh, page: Page, verb: str, headers: dict[str, str], reason: str
) -> None:
    sent = {"x-csrf-token": page.csrf_token} | headers
    answer = await page.post(verb, {name: value.format(host=mesh.address) for name, value in sent.items()})

    assert answer.status_code == 403
    assert problem(answer.status_code, answer.headers, answer.content).reason == reason
    assert "set-cookie" not in answer.headers
    await page.renew()


async def test_another_sessions_csrf_token_does_not_do(page: Page, make_user: MakeUser) -> None:
    other = await make_user()
    signed_in = await page.post("login", OUR_PAGE, {"email": other.email, "password": PASSWORD, "browser": True})
    stranger = signed_in.json()["csrfToken"]

    answer = await page.post("refresh", OUR_PAGE | {"x-csrf-token": stranger})

    assert problem(answer.status_code, answer.headers, answer.content).reason == "CSRF_TOKEN_INVALID"


async def test_an_older_browsers_word_is_its_origin(mesh: Mesh, page: Page) -> None:
    answer = await page.post("refresh", {"origin": f"http://{mesh.address}", "x-csrf-token": page.csrf_token})

    assert answer.status_code == 200


async def test_no_other_page_signs_somebody_in(page: Page, make_user: MakeUser) -> None:
    user = await make_user()

    answer = await page.post(
        "login", {"sec-fetch-site": "cross-site"}, {"email": user.email, "password": PASSWORD, "browser": True}
    )

    assert problem(answer.status_code, answer.headers, answer.content).reason == "CROSS_SITE"
    assert "set-cookie" not in answer.headers


async def test_a_browser_is_known_again_by_a_cookie_that_scripts_cannot_read(
    rest: httpx.AsyncClient, auth: AuthStub, make_user: MakeUser
) -> None:
    user = await make_user()
    credentials = {"email": user.email, "password": PASSWORD, "browser": True}
    first = await rest.post("/v1/auth:login", json=credentials, headers=OUR_PAGE)
    (kept,) = [each[DEVICE_COOKIE] for each in cookies(first) if DEVICE_COOKIE in each]
    assert (kept["path"], kept["httponly"], kept["secure"], kept["samesite"]) == (
        "/v1/auth:login",
        True,
        True,
        "Strict",
    )
    assert (kept["max-age"], first.json()["deviceToken"]) == (f"{180 * 86_400}", "")
    held = {"cookie": f"other=1; {DEVICE_COOKIE}={kept.value}"}
    for _ in range(5):
        await refused(sign_in(auth, user.email, "Wrong-password-1"))

    strangers = await rest.post("/v1/auth:login", json=credentials, headers=OUR_PAGE)
    owners = await rest.post("/v1/auth:login", json=credentials, headers=OUR_PAGE | held)
    no_page = await rest.post("/v1/auth:login", json={**credentials, "browser": False}, headers=held)

    assert (strangers.status_code, owners.status_code, no_page.status_code) == (429, 200, 429)
    assert DEVICE_COOKIE in cookies(owners)[-1]


@pytest.mark.parametrize("cookie", ["", "a=1", f"{REFRESH_COOKIE}=", "=;=;", "\u00e9", "x" * 3000])
async def test_what_is_no_cookie_of_ours_is_no_refresh_token(rest: httpx.AsyncClient, cookie: str) -> None:
    for verb in ("refresh", "logout"):
        answer = await rest.post(f"/v1/auth:{verb}", json={}, headers=[(b"cookie", cookie.encode("latin-1"))])

        assert list(problem(answer.status_code, answer.headers, answer.content).violations) == ["refreshToken"]


async def test_it_is_the_same_over_grpc(auth: AuthStub, make_user: MakeUser) -> None:
    user = await make_user()
    request = LoginRequest(email=user.email, password=PASSWORD, browser=True)

    call = auth.Login(request, metadata=tuple(OUR_PAGE.items()), timeout=10)

    assert not (await call).refresh_token
    sent = [value for name, value in await call.initial_metadata() if name == "set-cookie"]
    assert len(sent) == 4
    elsewhere = await refused(auth.Login(request, timeout=10))
    assert (elsewhere.code, elsewhere.reason) == (grpc.StatusCode.PERMISSION_DENIED, "CROSS_SITE")
    nothing = await refused(auth.RefreshTokens(RefreshTokensRequest(), timeout=10))
    assert list(nothing.violations) == ["refreshToken"]
