"""Opaque page tokens: the last key seen, bound to the question that was asked."""

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence

from libs.errors import InvalidArgument

DEFAULT_SIZE = 50

Key = str | float


def size(asked: int) -> int:
    """How many results a page holds; the contract bounds what may be asked."""
    return asked or DEFAULT_SIZE


def token(keys: Sequence[Key], question: Sequence[object]) -> str:
    """The token of the page after the result whose sort keys are `keys`."""
    text = json.dumps([_digest(question), *keys], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def keys(page_token: str, question: Sequence[object], kinds: Sequence[type[Key]]) -> list[Key] | None:
    """The sort keys to go on from, of these kinds; None on the first page.

    Raises:
        InvalidArgument: the token is not one of ours, or was made for another question.
    """
    if not page_token:
        return None
    try:
        padded = page_token + "=" * (-len(page_token) % 4)
        digest, *found = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, TypeError, RecursionError):
        raise InvalidArgument({"pageToken": "is not a token of this API"}) from None
    if len(found) != len(kinds) or not all(type(key) is kind for key, kind in zip(found, kinds, strict=True)):
        raise InvalidArgument({"pageToken": "is not a token of this API"})
    if digest != _digest(question):
        raise InvalidArgument({"pageToken": "belongs to another query; ask for the first page again"})
    return list(found)


def _digest(question: Sequence[object]) -> str:
    return hashlib.sha256(repr(tuple(question)).encode()).hexdigest()[:16]
