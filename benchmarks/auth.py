"""What do signing in and permissions cost? python -m benchmarks.auth --help

Seeds bilingual items as `rest` does, then measures a running mesh through the edge, and in this process what every
service does in its own: checking a token and deciding. Requests at a rate are sent when they are due, whether or not
those before were answered, and their times count from then.
"""

import asyncio
import multiprocessing
import secrets
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import cycle
from typing import Annotated

import httpx
import typer
from rich.progress import Progress
from rich.table import Table

from benchmarks import load, measure
from benchmarks.load import Outcome, Request, percentile
from benchmarks.measure import console
from benchmarks.workload import KIND, Workload
from libs.identity import Identity, Verifier
from libs.permissions import READ_DRAFTS, UPDATE, Grant, Resource, hold, may_write
from libs.revocations import Revocations
from libs.roles import Roles
from thmnayah.auth.v1.auth_pb2 import CreateUserRequest, GetJwksRequest, JsonWebKeySet
from thmnayah.auth.v1.roles_pb2 import CreateRoleRequest, DeleteRoleRequest, GetRoleSnapshotRequest, Role, RoleSnapshot
from thmnayah.auth.v1.roles_pb2 import Grant as SaidGrant
from thmnayah.auth.v1.sessions_pb2 import ListRevocationsRequest, ListRevocationsResponse
from thmnayah.auth.v1.users_pb2 import DeleteUserRequest
from thmnayah.client import Mesh, connect

LOGINS, MANY_LOGINS, READS = 20, 200, 50  # a second
CONNECTIONS = 64
REFRESHES = 200
LIST_SIZE = 50
PAGES, ROUNDS = 10, 10
CHECKS = 20_000
CATEGORIES = tuple(f"category-{number}" for number in range(10))  # half of those that the items are in

Body = dict[str, str]


@dataclass
class Figures:
    """What came out, to be printed."""

    table: Table = field(default_factory=lambda: Table("what", "figure", "goal", box=None, header_style="bold"))

    def add(self, what: str, figure: str, goal: str, *, reached: bool = True) -> None:
        self.table.add_row(what, figure, goal, style=None if reached else "yellow")

    def times(self, what: str, times: Sequence[float], unit: float = 1e3, *, p95: float = 0.0) -> None:
        """Percentiles of seconds, shown as so many parts of one; the goal is in the same."""
        ordered = sorted(times)
        shown = [percentile(ordered, percent) * unit for percent in load.PERCENTS]
        name = {1e3: "ms", 1e6: "µs"}[unit]
        self.add(
            f"{what}, {name}",
            "p50 {:.2f}  p95 {:.2f}  p99 {:.2f}".format(*shown),
            f"p95 < {p95:g}" if p95 else "",
            reached=not p95 or shown[1] < p95,
        )


def at_rate(server: str, requests: Sequence[Request], per_second: float, seconds: float) -> Outcome:
    """Ask in turn, so many a second."""
    return load.ask(server, cycle(requests), connections=CONNECTIONS, seconds=seconds, per_second=per_second)


async def checks(mesh: Mesh, token: str) -> list[float]:
    """Seconds of each check of a token that was seen before, as in a service."""

    async def keys() -> JsonWebKeySet:
        return await mesh.auth.GetJwks(GetJwksRequest())

    async def no_roles(_: GetRoleSnapshotRequest) -> RoleSnapshot:
        return RoleSnapshot()

    async def none(_: ListRevocationsRequest) -> ListRevocationsResponse:
        return ListRevocationsResponse()

    revocations = Revocations(none)
    verifier = Verifier(keys, Roles(no_roles), revocations)
    polling = asyncio.create_task(revocations.poll())
    await verifier.verify(token)
    times = []
    for _ in range(CHECKS):
        began = time.perf_counter()
        await verifier.verify(token)
        times.append(time.perf_counter() - began)
    polling.cancel()
    return times


def decisions(*grants: Grant) -> list[float]:
    """Seconds of each decision whether somebody with a role of these grants may change the title of an item."""
    who = Identity("somebody", "session", ("role",), hold("somebody", ["role"], {"role": grants}))
    item = Resource(type=KIND, locales=frozenset({"ar", "en"}), category_path=["category-3"], created_by="somebody")
    times = []
    for _ in range(CHECKS):
        began = time.perf_counter()
        scope = who.scope(UPDATE)
        allowed = scope is None or may_write(scope.held(item), "title", "ar", item.locales)
        times.append(time.perf_counter() - began)
        if not allowed:
            raise RuntimeError("refused what the role grants")
    return times


def refreshes(http: httpx.Client, login: Body) -> list[float]:
    """Seconds of each of many, one after the other in one session."""
    tokens = http.post("/v1/auth:login", json=login).raise_for_status().json()
    times = []
    for _ in range(REFRESHES):
        body = {"refreshToken": tokens["refreshToken"]}
        began = time.perf_counter()
        answer = http.post("/v1/auth:refresh", json=body)
        times.append(time.perf_counter() - began)
        tokens = answer.raise_for_status().json()
    return times


def lists(http: httpx.Client, logins: Sequence[Body]) -> list[list[float]]:
    """For each caller, in turn with the others, seconds of each of the first pages of drafts."""
    answers = [http.post("/v1/auth:login", json=each).raise_for_status().json() for each in logins]
    times: list[list[float]] = [[] for _ in logins]
    query = {"pageSize": str(LIST_SIZE), "view": "DRAFT", "filter": f'type = "{KIND}"'}
    for _ in range(ROUNDS):
        pages = [""] * len(logins)
        for _ in range(PAGES):
            for number, tokens in enumerate(answers):
                headers = {"authorization": f"Bearer {tokens['accessToken']}"}
                began = time.perf_counter()
                answer = http.get("/v1/contents", params={**query, "pageToken": pages[number]}, headers=headers)
                times[number].append(time.perf_counter() - began)
                found = answer.raise_for_status().json()
                if len(found["contents"]) != LIST_SIZE:
                    raise RuntimeError(f"a page of {len(found['contents'])} items instead of {LIST_SIZE}")
                pages[number] = found["nextPageToken"]
    return times


async def measured(mesh: Mesh, work: Workload, seconds: float, figures: Figures) -> None:
    """Add all figures; what is made for it is deleted again."""
    word, password = secrets.token_hex(6), f"{secrets.token_urlsafe(16)}-A1"
    server, reads = work.server, work.reads(READS)
    roles = {
        f"all-{word}": SaidGrant(permission=READ_DRAFTS),
        f"some-{word}": SaidGrant(permission=READ_DRAFTS, categories=CATEGORIES),
    }
    users: list[str] = []
    bodies: list[Body] = []
    try:
        for role, grant in roles.items():
            await mesh.roles.CreateRole(CreateRoleRequest(role=Role(id=role, grants=[grant])))
            email = f"{role}@example.com"
            user = await mesh.auth.CreateUser(CreateUserRequest(email=email, password=password, roles=[role]))
            users.append(user.id)
            bodies.append({"email": email, "password": password})
        logins = [load.request("POST", "/v1/auth:login", body=each, expects='"accessToken":"') for each in bodies]

        outcome = await asyncio.to_thread(at_rate, server, logins, LOGINS, seconds)
        figures.times(f"login, {LOGINS} a second", outcome.times, p95=100)
        figures.add("  served, refused, failed", _counts(outcome), "none but served")

        alone = await asyncio.to_thread(at_rate, server, reads, READS, seconds)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as other:
            storm = other.submit(at_rate, server, logins, MANY_LOGINS, seconds + 2)
            await asyncio.sleep(1)  # the other process begins
            beside = await asyncio.to_thread(at_rate, server, reads, READS, seconds)
            stormed = await asyncio.wrap_future(storm)
        figures.times(f"read, {READS} a second, alone", alone.times)
        figures.times(f"read, {READS} a second, beside {MANY_LOGINS} logins a second", beside.times)
        figures.add("  logins served, refused, failed", _counts(stormed), "")
        ratio = _p99(beside) / _p99(alone)
        figures.add("  p99 beside to p99 alone", f"{ratio:.2f}", "≤ 2", reached=ratio <= 2)

        figures.times("refresh", refreshes(work.http, bodies[0]), p95=25)
        every, some = lists(work.http, bodies)
        figures.times(f"list of {LIST_SIZE} drafts", every)
        figures.times(f"list of {LIST_SIZE} drafts under a rule", some)
        ratio = statistics.median(some) / statistics.median(every)
        figures.add("  median with the rule to without", f"{ratio:.2f}", "< 1.3", reached=ratio < 1.3)
    finally:
        for each in users:
            await mesh.users.DeleteUser(DeleteUserRequest(id=each))
        for role in roles:
            await mesh.roles.DeleteRole(DeleteRoleRequest(id=role))


def _counts(outcome: Outcome) -> str:
    return f"{outcome.answers}, {outcome.shed}, {sum(outcome.errors.values())}"


def _p99(outcome: Outcome) -> float:
    return percentile(sorted(outcome.times), 99)


async def measure_all(work: Workload, email: str, password: str, seconds: float, figures: Figures) -> None:
    async with connect(work.server, email=email, password=password) as mesh:
        token = work.sign_in()
        figures.times("check of a token, warm", await checks(mesh, token), 1e6, p95=50)
        figures.times("decision without conditions", decisions(Grant(UPDATE)), 1e6, p95=1000)
        limits = [Grant(UPDATE, types=frozenset({f"type-{number}"})) for number in range(20)]
        holds = Grant(UPDATE, types=frozenset({KIND}), categories=frozenset(CATEGORIES), own=True)
        figures.times("decision with 21 conditional grants", decisions(*limits, holds), 1e6, p95=1000)
        await measured(mesh, work, seconds, figures)


def main(
    server: measure.Server = "127.0.0.1:8080",
    email: measure.Email = "admin@thmnayah.local",
    password: measure.Password = "",
    items: Annotated[int, typer.Option(min=2 * PAGES * LIST_SIZE, help="Bilingual items to list.")] = 10_000,
    seconds: measure.Seconds = 10,
    data: measure.Data = measure.DATA,
) -> None:
    """Measure signing in and permissions on a running mesh."""
    measure.start()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        work = Workload(server, email, password, data, items)
        work.seed(progress)
    figures = Figures()
    asyncio.run(measure_all(work, email, password, seconds, figures))
    console.print(figures.table)


if __name__ == "__main__":
    typer.run(main)
