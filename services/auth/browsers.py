"""Sessions of pages in browsers: the refresh token in a cookie that scripts cannot read, and whose use is guarded.

A cookie goes along with whatever request a page makes, so its use needs two things that another site's
page cannot give: the browser's own word that the page is ours, and the session's CSRF token in a header.
docs/decisions/0009-browser-sessions.md says why the cookies are as they are.
"""

import hmac

from libs.errors import Forbidden
from libs.rpc import request_header
from services.auth.sessions import Terms
from services.auth.throttle import DEVICE_SECONDS

REFRESH_COOKIE = "__Secure-thmnayah-refresh"
CSRF_COOKIE = "__Secure-thmnayah-csrf"
# A path of a cookie covers what lies below it after a slash, so /v1/auth would cover neither.
PATHS = ("/v1/auth:refresh", "/v1/auth:logout")
DEVICE_COOKIE = "__Secure-thmnayah-device"
DEVICE_PATH = "/v1/auth:login"

# Names in a User-Agent, the more telling first: each browser also claims to be those below it.
_BROWSERS = {"Edg": "Edge", "OPR": "Opera", "Firefox": "Firefox", "FxiOS": "Firefox", "CriOS": "Chrome",
             "Chrome": "Chrome", "Safari": "Safari", "grpc-": "gRPC", "curl": "curl", "python": "Python"}  # fmt: skip
_SYSTEMS = {"Android": "Android", "iPhone": "iOS", "iPad": "iPadOS", "Windows": "Windows", "CrOS": "ChromeOS",
            "Mac OS X": "macOS", "Linux": "Linux"}  # fmt: skip


def user_agent() -> str:
    """The family of the program that calls and its system, such as "Firefox, Windows"; "" for an unknown one."""
    sent = request_header("user-agent")
    found = (next((name for mark, name in names.items() if mark in sent), "") for names in (_BROWSERS, _SYSTEMS))
    return ", ".join(filter(None, found))


def csrf_token(terms: Terms, session_id: str) -> str:
    """What a page of the session must say in `X-CSRF-Token`; known to nobody who cannot read its cookies."""
    return terms.digest("csrf token", session_id)


def cookie(wanted: str) -> str:
    """What the request's cookie of this name holds; "" for none."""
    # Not http.cookies, which stops at the first cookie it cannot read, whoever set it.
    pairs = (pair.strip().partition("=") for pair in request_header("cookie").split(";"))
    return next((value for name, _, value in pairs if name == wanted), "")


def check_origin() -> None:
    """Raises: Forbidden unless the browser says that a page of this very host asks."""
    site = request_header("sec-fetch-site")
    if site:
        same = site == "same-origin"
    else:  # a browser from before 2023
        host = request_header("x-forwarded-host").rpartition(",")[2].strip()
        same = bool(host) and request_header("origin").partition("://")[2] == host
    if not same:
        raise Forbidden("CROSS_SITE", "another site's page may not do this", "لا يجوز هذا لصفحة من موقع آخر")


def check_csrf(terms: Terms, session_id: str) -> None:
    """Raises: Forbidden when the header does not hold the session's CSRF token."""
    if not hmac.compare_digest(request_header("x-csrf-token").encode(), csrf_token(terms, session_id).encode()):
        raise Forbidden(
            "CSRF_TOKEN_INVALID",
            "the header X-CSRF-Token is not the session's",
            "ترويسة X-CSRF-Token ليست لهذه الجلسة",
        )


def cookies(terms: Terms, session_id: str, refresh_token: str, device_token: str = "") -> tuple[tuple[str, str], ...]:
    """The headers that keep a session's tokens in the browser.

    Args:
        device_token: of a sign-in.
    """
    headers = _headers(refresh_token, csrf_token(terms, session_id), int(terms.idle.total_seconds()))
    if not device_token:
        return headers
    kept = f"{DEVICE_COOKIE}={device_token}; Path={DEVICE_PATH}; HttpOnly; {_kept(DEVICE_SECONDS)}"
    return (*headers, ("set-cookie", kept))


def no_cookies() -> tuple[tuple[str, str], ...]:
    """The headers that take them out again, but for the device's, which is there for the next sign-in."""
    return _headers("", "", 0)


def _headers(refresh_token: str, csrf: str, seconds: int) -> tuple[tuple[str, str], ...]:
    kept = _kept(seconds)
    return (
        *(("set-cookie", f"{REFRESH_COOKIE}={refresh_token}; Path={path}; HttpOnly; {kept}") for path in PATHS),
        # Scripts of our pages read it after a reload, so it is theirs to see, and lies where the pages are.
        ("set-cookie", f"{CSRF_COOKIE}={csrf}; Path=/; {kept}"),
    )


def _kept(seconds: int) -> str:
    return f"Max-Age={seconds}; Secure; SameSite=Strict"
