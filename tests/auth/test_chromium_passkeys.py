"""Passkeys in a real browser, with Chromium's virtual authenticator; `make browser`."""

import os
import shutil
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from playwright.async_api import CDPSession, Page, async_playwright

from tests.auth.people import MakePerson, Person

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: install one, or name it in CHROMIUM"),
]

ORIGIN = "http://localhost:8080"

CREATE = """async options => (await navigator.credentials.create(
    {publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options)})).toJSON()"""
GET = """async options => (await navigator.credentials.get(
    {publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options)})).toJSON()"""


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    """An empty page of any site asked for; nothing is fetched from one."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = await browser.new_page()
        await page.route("**/*", lambda route: route.fulfill(body="<!doctype html>", content_type="text/html"))
        await page.goto(ORIGIN)
        yield page
        await browser.close()


@pytest.fixture
async def device(page: Page) -> CDPSession:
    """The browser's devtools, with a device that verifies its user."""
    session = await page.context.new_cdp_session(page)
    await session.send("WebAuthn.enable")
    options = {"protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True}
    made = await session.send(
        "WebAuthn.addVirtualAuthenticator",
        {"options": {**options, "isUserVerified": True, "automaticPresenceSimulation": True}},
    )
    session.authenticator_id = made["authenticatorId"]  # type: ignore[attr-defined]  # for the tests that look inside
    return session


async def post(rest: httpx.AsyncClient, verb: str, **body: Any) -> httpx.Response:
    return await rest.post(f"/v1/auth:{verb}", json=body)


async def register(rest: httpx.AsyncClient, page: Page, person: Person) -> None:
    challenge = await person.begin_enrolment()
    begun = (await post(rest, "beginPasskeyRegistration", challenge=challenge)).json()
    passkey = await page.evaluate(CREATE, begun["options"])
    made = await post(rest, "finishPasskeyRegistration", challenge=challenge, passkey=passkey)
    assert made.status_code == 200, made.text


async def refused(answer: httpx.Response) -> bool:
    return answer.status_code == 401 and answer.json()["details"][0]["reason"].startswith("MFA_")


@pytest.mark.usefixtures("device")
async def test_a_browser_makes_a_passkey_and_signs_in_with_it(
    rest: httpx.AsyncClient, make_person: MakePerson, page: Page
) -> None:
    person = await make_person()
    await register(rest, page, person)

    asked = (await post(rest, "beginPasskeyLogin")).json()
    passkey = await page.evaluate(GET, asked["passkeyOptions"])
    alone = await post(rest, "finishPasskeyLogin", challenge=asked["challenge"], passkey=passkey)
    again = await post(rest, "finishPasskeyLogin", challenge=asked["challenge"], passkey=passkey)
    login = await post(rest, "login", email=person.user.email, password=person.password)
    mfa = login.json()["mfa"]
    stale = await post(rest, "verifyMfa", challenge=mfa["challenge"], passkey=passkey)
    signed = await page.evaluate(GET, mfa["passkeyOptions"])
    second = await post(rest, "verifyMfa", challenge=mfa["challenge"], passkey=signed)

    assert alone.json()["accessToken"]
    assert second.json()["accessToken"]
    assert await refused(again)
    assert await refused(stale)


@pytest.mark.usefixtures("device")
async def test_a_browser_on_another_site_gets_no_passkey_and_no_sign_in(
    rest: httpx.AsyncClient, make_person: MakePerson, page: Page
) -> None:
    person = await make_person()
    await register(rest, page, person)
    await page.goto("http://localhost:8081")

    asked = (await post(rest, "beginPasskeyLogin")).json()
    passkey = await page.evaluate(GET, asked["passkeyOptions"])
    assert await refused(await post(rest, "finishPasskeyLogin", challenge=asked["challenge"], passkey=passkey))

    other = await make_person()
    challenge = await other.begin_enrolment()
    options = (await post(rest, "beginPasskeyRegistration", challenge=challenge)).json()["options"]
    made = await page.evaluate(CREATE, options)
    assert await refused(await post(rest, "finishPasskeyRegistration", challenge=challenge, passkey=made))


async def test_a_device_that_does_not_verify_its_user_is_no_sign_in_alone(
    rest: httpx.AsyncClient, make_person: MakePerson, page: Page, device: CDPSession
) -> None:
    person = await make_person()
    await register(rest, page, person)
    await device.send(
        "WebAuthn.setUserVerified",
        {"authenticatorId": device.authenticator_id, "isUserVerified": False},  # type: ignore[attr-defined]  # see `device`
    )

    asked = (await post(rest, "beginPasskeyLogin")).json()
    lax = asked["passkeyOptions"] | {"userVerification": "discouraged"}
    passkey = await page.evaluate(GET, lax)

    assert await refused(await post(rest, "finishPasskeyLogin", challenge=asked["challenge"], passkey=passkey))


async def test_a_copy_of_a_device_is_refused(
    rest: httpx.AsyncClient, make_person: MakePerson, page: Page, device: CDPSession
) -> None:
    person = await make_person()
    await register(rest, page, person)
    where = {"authenticatorId": device.authenticator_id}  # type: ignore[attr-defined]  # see `device`
    [copied] = (await device.send("WebAuthn.getCredentials", where))["credentials"]

    async def sign_in() -> httpx.Response:
        asked = (await post(rest, "beginPasskeyLogin")).json()
        passkey = await page.evaluate(GET, asked["passkeyOptions"])
        return await post(rest, "finishPasskeyLogin", challenge=asked["challenge"], passkey=passkey)

    assert (await sign_in()).json()["accessToken"]
    await device.send("WebAuthn.removeCredential", {**where, "credentialId": copied["credentialId"]})
    await device.send("WebAuthn.addCredential", {**where, "credential": copied})

    assert await refused(await sign_in())
