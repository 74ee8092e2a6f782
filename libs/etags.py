"""Etags: which version a change is based on, and which one an answer is."""

import re
from typing import Protocol, TypeVar

from libs import rpc
from libs.errors import Conflict
from libs.rpc import Context

_VERSION = re.compile("[1-9][0-9]{0,9}")


class Tagged(Protocol):
    """A resource with an etag."""

    @property
    def etag(self) -> str: ...


T = TypeVar("T", bound=Tagged)


# What changed, in English and in Arabic.
ITEM = ("item", "العنصر")


def check(etag: str, version: int, *, since: int | None = None, what: tuple[str, str] = ITEM) -> None:
    """Check the version that a change is based on.

    Args:
        etag: one, or several joined by commas, as in `If-Match`; "" and "*" hold for every version.
        since: the version from which on what changes is as it is now; without it, `version` alone will do.
        what: is changed, for the error.

    Raises:
        Conflict: none was read from this version.
    """
    if etag == "" or "*" in [each.strip(' "') for each in etag.split(",")]:
        return
    oldest = version if since is None else since
    if not any(oldest <= each <= version for each in versions(etag)):
        raise mismatch(version, what)


def versions(etag: str) -> list[int]:
    """The versions that were read, of one etag or several joined by commas."""
    # What follows a full stop tells apart how one version was read.
    read = (each.strip().strip('"').partition(".")[0].removesuffix("-published") for each in etag.split(","))
    return [int(each) for each in read if _VERSION.fullmatch(each)]


def mismatch(version: int, what: tuple[str, str] = ITEM) -> Conflict:
    """It changed: it is at this version."""
    english, arabic = what
    return Conflict(
        "ETAG_MISMATCH",
        f"the {english} changed since it was read; read it again",
        f"تغيّر {arabic} منذ قراءته؛ اقرأه من جديد",
        metadata={"etag": f'"{version}"'},
    )


def named(etag: str, version: int) -> int:
    """The newest version that an etag that holds for `version` names; `version` itself when it names none."""
    return max(versions(etag), default=version)


def given(etag: str) -> str:
    """The etag of a request, or else of the call's `If-Match`."""
    return etag or rpc.request_header("if-match")


async def tagged(resource: T, context: Context) -> T:
    """The resource, with its etag as a header: Envoy makes it REST's `ETag`."""
    await context.send_initial_metadata((("etag", resource.etag),))
    return resource
