"""Etags: which version a change is based on, and which one an answer is."""

from typing import Protocol, TypeVar

from libs import rpc
from libs.errors import Conflict
from libs.rpc import Context


class Tagged(Protocol):
    """A resource with an etag."""

    @property
    def etag(self) -> str: ...


T = TypeVar("T", bound=Tagged)


def check(etag: str, version: int) -> None:
    """Check the version that a change is based on.

    Args:
        etag: one, or several joined by commas, as in `If-Match`; "" and "*" hold for every version.

    Raises:
        Conflict: none was read from this version.
    """
    # What follows a full stop tells apart how one version was read.
    read = {each.strip().strip('"').partition(".")[0] for each in etag.split(",")}
    if etag == "" or read & {"*", f"{version}", f"{version}-published"}:
        return
    raise Conflict(
        "ETAG_MISMATCH",
        "the item changed since it was read; read it again",
        "تغيّر العنصر منذ قراءته؛ اقرأه من جديد",
        metadata={"etag": f'"{version}"'},
    )


def given(etag: str) -> str:
    """The etag of a request, or else of the call's `If-Match`."""
    return etag or rpc.request_header("if-match")


async def tagged(resource: T, context: Context) -> T:
    """The resource, with its etag as a header: Envoy makes it REST's `ETag`."""
    await context.send_initial_metadata((("etag", resource.etag),))
    return resource
