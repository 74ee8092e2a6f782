"""Addresses that a rich text may hold."""

import re

LONGEST = 2048

# What the contract's patterns refuse: space, controls, what ends an address in HTML or Markdown, and
# marks that make one address look like another.
_UNSAFE = re.compile('[\\x00-\\x20\\x7f"<>\\\\^`{|}\u200e\u200f\u202a-\u202e\u2066-\u2069]')
_SCHEME = re.compile(r"(https?)://(?=[^/?#])|(mailto):(?=.)", re.IGNORECASE)


def clean(url: str) -> str:
    """The address in the form the contract allows; "" for one that may not stand in a text."""
    url = url.strip()
    scheme = _SCHEME.match(url)
    if scheme is None:
        return ""
    start = scheme.end()
    cleaned = url[:start].lower() + _UNSAFE.sub(_percent, url[start:])
    return cleaned if len(cleaned) <= LONGEST else ""


def host(url: str) -> str:
    """The host of an http(s) address as ASCII, without "www."; "" when it has none that is valid."""
    authority = re.split("[/?#]", url.partition("://")[2], maxsplit=1)[0].rpartition("@")[2]
    name = re.sub(r":\d*$", "", authority).lower().removeprefix("www.")
    try:
        name = name.encode("idna").decode("ascii")
    except UnicodeError:
        return ""
    return name if re.fullmatch(r"[a-z0-9.-]{1,100}", name) else ""


def _percent(unsafe: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in unsafe[0].encode())
