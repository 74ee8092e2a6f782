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


def check(etag: str, version: int, *, since: int | None = None) -> None:
    """Check the version that a change is based on.

    Args:
        etag: one, or several joined by commas, as in `If-Match`; "" and "*" hold for every version.
        since: the version from which on what changes is as it is now; without it, `version` alone will do.

    Raises:
        Conflict: none was read from this version.
    """
    versions = _versions(etag)
    if etag == "" or "*" in versions:
        return
    oldest = version if since is None else since
    if any(_VERSION.fullmatch(each) and oldest <= int(each) <= version for each in versions):
        return
    raise Conflict(
        "ETAG_MISMATCH",
        "the item changed since it was read; read it again",
        "تغيّر العنصر منذ قراءته؛ اقرأه من جديد",
        metadata={"etag": f'"{version}"'},
    )


def named(etag: str, version: int) -> int:
    """The newest version that an etag that holds for `version` names; `version` itself when it names none."""
    return max((int(each) for each in _versions(etag) if _VERSION.fullmatch(each)), default=version)


def _versions(etag: str) -> set[str]:
    # What follows a full stop tells apart how one version was read.
    read = (each.strip().strip('"').partition(".")[0] for each in etag.split(","))
    return {each.removesuffix("-published") for each in read}


def given(etag: str) -> str:
    """The etag of a request, or else of the call's `If-Match`."""
    return etag or rpc.request_header("if-match")


async def tagged(resource: T, context: Context) -> T:
    """The resource, with its etag as a header: Envoy makes it REST's `ETag`."""
    await context.send_initial_metadata((("etag", resource.etag),))
    return resource
