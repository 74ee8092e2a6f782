"""Changes of messages by update masks."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from google.protobuf.message import Message

from libs.errors import InvalidArgument

M = TypeVar("M", bound=Message)


def changed(given: Message, paths: Sequence[str], allowed: Iterable[str]) -> list[str]:
    """The fields to set: those of the mask, all for "*", or without a mask those that hold a value.

    Raises:
        InvalidArgument: the mask names a field that is not allowed.
    """
    allowed = tuple(allowed)
    if wrong := [path for path in paths if path not in (*allowed, "etag", "*")]:
        raise InvalidArgument({"updateMask": f"{wrong[0]} is not for callers to set"})
    return [name for name in allowed if "*" in paths or name in paths or (not paths and getattr(given, name))]


def merged(before: M, given: M, names: Iterable[str]) -> M:
    """A message with the values that another has in some fields, which may be none."""
    after = type(before)()
    after.CopyFrom(before)
    set_to = {}
    for name in names:
        after.ClearField(name)
        set_to[name] = getattr(given, name)
    after.MergeFrom(type(before)(**set_to))
    return after
