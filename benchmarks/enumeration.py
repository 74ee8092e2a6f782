"""Does the time of a refused sign-in tell whether an address has an account? python -m benchmarks.enumeration

Known and unknown addresses in turn, each with a few wrong passwords only, so that nobody is told to wait.
Ends with 1 when R-AUTH-6 does not hold: medians less than 2 ms or 5 % apart, and a Mann-Whitney test that
finds no difference (p > 0.01).
"""

import asyncio
import math
import secrets
import statistics
import time
from collections.abc import Sequence

import typer

from benchmarks.measure import Email, Password, Server
from thmnayah.auth.v1.auth_pb2 import CreateUserRequest, LoginRequest
from thmnayah.auth.v1.users_pb2 import DeleteUserRequest
from thmnayah.client import ApiError, Mesh, connect

SAMPLES = 500  # of each kind
TRIES = 4  # of one address: there is no delay before the fifth


async def refused_seconds(mesh: Mesh, email: str) -> float:
    """How long a wrong password takes."""
    began = time.perf_counter()
    try:
        await mesh.auth.Login(LoginRequest(email=email, password="Wrong-password-1"))  # noqa: S106 — wrong on purpose
    except ApiError as error:
        if error.reason != "CREDENTIALS_INVALID":
            raise
    return time.perf_counter() - began


def mann_whitney(first: Sequence[float], second: Sequence[float]) -> float:
    """The two-sided p by the normal approximation, which many samples without ties allow.

    Source: Mann and Whitney, "On a test of whether one of two random variables is stochastically larger
    than the other", 1947.
    """
    ranks = {value: rank for rank, value in enumerate(sorted([*first, *second]), start=1)}
    n, m = len(first), len(second)
    u = sum(ranks[value] for value in first) - n * (n + 1) / 2
    return math.erfc(abs(u - n * m / 2) / math.sqrt(n * m * (n + m + 1) / 12) / math.sqrt(2))


async def measure(server: str, email: str, password: str) -> bool:
    """Print what came out; returns whether it is as it should be."""
    word = secrets.token_hex(6)
    seconds: tuple[list[float], list[float]] = ([], [])
    async with connect(server, email=email, password=password) as admin, connect(server) as anyone:
        for number in range(SAMPLES // TRIES):
            known, unknown = f"known-{word}-{number:04}@example.com", f"nobody-{word}-{number:04}@example.com"
            # Not the account's password itself, which nobody needs to know.
            request = CreateUserRequest(email=known, password=f"{secrets.token_urlsafe(16)}-A1", roles=["reader"])
            user = await admin.auth.CreateUser(request)
            for attempt in range(TRIES):
                # In turn, so that neither is always the one after a pause.
                for which in (0, 1) if attempt % 2 else (1, 0):
                    seconds[which].append(await refused_seconds(anyone, (known, unknown)[which]))
            await admin.users.DeleteUser(DeleteUserRequest(id=user.id))
    known_ms, unknown_ms = (statistics.median(each) * 1000 for each in seconds)
    difference = abs(known_ms - unknown_ms)
    p = mann_whitney(*seconds)
    print(f"{len(seconds[0])} of each: known {known_ms:.2f} ms, unknown {unknown_ms:.2f} ms, p = {p:.3f}")
    return (difference < 2 or difference < 0.05 * known_ms) and p > 0.01


def main(email: Email = "admin@thmnayah.local", password: Password = "", server: Server = "127.0.0.1:8080") -> None:
    """Measure the mesh that runs."""
    raise typer.Exit(0 if asyncio.run(measure(server, email, password)) else 1)


if __name__ == "__main__":
    typer.run(main)
