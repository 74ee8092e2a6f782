"""Password hashes: argon2id, computed beside the event loop by as many threads as there are cores."""

import asyncio
import os
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from prometheus_client import Counter

from libs.errors import Exhausted

# OWASP's minimum; measured in RELIABILITY as the setting that lets a sign-in end below 100 ms on two cores.
_hasher = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1, hash_len=32, salt_len=16)

# Verified when there is no such user, so that the answer takes as long.
_DUMMY = _hasher.hash("a password that nobody has")

WAITING = 8

_runs = Counter("argon2_runs_total", "Passwords hashed, to store or to compare them")

T = TypeVar("T")


class Passwords:
    """A bounded pool: when more wait than WAITING, a sign-in is refused at once instead of late."""

    def __init__(self) -> None:
        self._threads = os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="argon2")
        self._running = 0

    async def hash(self, password: str) -> str:
        """The hash to store."""
        return await self._run(_hasher.hash, _prepared(password))

    async def verify(self, password: str, stored: str | None) -> bool:
        """Whether the password is the one behind `stored`; with None it takes as long and is False."""
        return await self._run(_matches, _prepared(password), stored or _DUMMY) and stored is not None

    def outdated(self, stored: str) -> bool:
        """Whether a hash was made with other parameters than today's."""
        return _hasher.check_needs_rehash(stored)

    async def _run(self, function: Callable[..., T], *arguments: str) -> T:
        if self._running >= self._threads + WAITING:
            raise Exhausted(
                "SIGN_IN_BUSY", "too many sign-ins at once", "محاولات دخول كثيرة في وقت واحد", retry_seconds=1
            )
        self._running += 1
        _runs.inc()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)
        finally:
            self._running -= 1


def _matches(password: str, stored: str) -> bool:
    try:
        return _hasher.verify(stored, password)
    except VerificationError:
        return False


def _prepared(password: str) -> str:
    """The same password however a keyboard composed its letters (NIST SP 800-63B)."""
    return unicodedata.normalize("NFKC", password)
