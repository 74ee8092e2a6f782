"""What a load test asks for: bilingual items, made and found through the public API, and requests about them."""

import json
import random
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import httpx
from rich.progress import Progress

from benchmarks import load
from benchmarks.load import Request

KIND = "benchmark"  # the type of the seeded items
DRAFT_KIND = "benchmark-draft"  # of those that `creates` makes; `clear` deletes them
LOCALES = ("en", "ar")
# In every title, so that a search finds all items; no question holds it.
WORD = {"en": "Benchmark", "ar": "قياس"}
SENTENCES = 4  # in a body
LIST_SIZE = 20
PAGES = 100  # how many of them are asked for
SEARCH_SIZE = 10
WARM = 10_000  # items that are read before it is measured
SEEDING_CONNECTIONS = 16
CONVERGED_SECONDS = 120.0
CONVERGED_PER_SECOND = 100


class Workload:
    """What the scenarios ask: the seeded items, questions and page tokens."""

    kind, draft_kind = KIND, DRAFT_KIND
    list_query: Mapping[str, str | int] = {"pageSize": LIST_SIZE}

    def __init__(self, server: str, email: str, password: str, data: Path, items: int) -> None:
        self.server = server
        self.items = items
        self._credentials = {"email": email, "password": password}
        self.http = httpx.Client(base_url=f"http://{server}", timeout=30)
        self.random = random.Random(1)  # the same requests in every run
        self._texts = read_lines(data / "documents.jsonl")
        self._sentences = {
            locale: [
                sentence for text in self._texts for sentence in re.split(r"(?<=[.!?؟])\s+", text[f"body_{locale}"])
            ]
            for locale in LOCALES
        }
        questions = [line[f"query_{locale}"] for line in read_lines(data / "queries.jsonl") for locale in LOCALES]
        # Some of the short ones hold a single word that says something, and that is misspelt.
        self._questions = [question for question in questions if len(question.split()) > 4]
        self.seeded: list[dict[str, Any]] = []
        """The id, state and slugs of each item."""
        self._ids: list[str] = []
        self._pages: list[tuple[str, str]] = []
        self._made = 0
        self._token = ""
        self.updated: list[str] = []
        """The items of the last `updates`, in order."""

    def sign_in(self) -> str:
        """Get a fresh access token, which the calls of this class carry too."""
        answer = self.http.post("/v1/auth:login", json=self._credentials).raise_for_status()
        if "x-ratelimit-limit" in answer.headers:
            raise SystemExit("this mesh limits calls; benchmarks/README.md says how to start one that does not")
        self._token = str(answer.json()["accessToken"])
        return self._token

    def seed(self, progress: Progress) -> None:
        """See that the items are there, published and found; those that are already, stay."""
        self.sign_in()
        names = {f"{self.kind}-{number}": number for number in range(self.items)}
        stored = self.stored(self.kind)
        missing = [number for name, number in names.items() if name not in stored]
        creations = (self._create(number, self.kind, f"{self.kind}-{number}") for number in missing)
        self.ask_all("creating", creations, len(missing), progress)
        self.sign_in()  # so many may take longer than a token lives
        stored = self.stored(self.kind) if missing else stored
        drafts = [stored[name]["id"] for name in names if stored[name]["state"] != "PUBLISHED"]
        self.ask_all("publishing", map(self.publish, drafts), len(drafts), progress)
        self.seeded = [stored[name] for name in names]
        self.random.shuffle(self.seeded)
        self._ids = [item["id"] for item in self.seeded]
        self._wait_for_search(progress)
        self._pages = self._full_pages()
        # What is measured is a mesh at work, not one that reads for the first time.
        some = self._ids[:WARM]
        self.ask_all("reading", map(self._read, some), len(some), progress)

    def clear(self, progress: Progress) -> None:
        """Delete what `creates` made."""
        self.sign_in()
        made = [item["id"] for item in self.stored(self.draft_kind).values()]
        deletions = (self.request("DELETE", f"/v1/contents/{each}", expects=each) for each in made)
        self.ask_all("deleting", deletions, len(made), progress)

    def ask(self, verb: str, path: str, *, body: object) -> httpx.Response:
        """The answer to one request."""
        return self.http.request(verb, path, json=body, headers={"authorization": f"Bearer {self._token}"})

    def floors(self, count: int) -> list[Request]:
        return [load.request("GET", "/healthz", expects='"SERVING"')] * count

    def reads(self, count: int) -> list[Request]:
        return [self._read(each) for each in self.random.choices(self._ids, k=count)]

    def lists(self, count: int) -> list[Request]:
        return [
            load.request(
                "GET",
                f"/v1/contents?{urlencode({**self.list_query, 'pageToken': token}, quote_via=quote)}",
                expects=f'"id":"{last}"',
            )
            for token, last in self.random.choices(self._pages, k=count)
        ]

    def searches(self, count: int) -> list[Request]:
        # As reads are of items that were read before: what nobody asked before has a scenario of its own.
        for question in self._questions:
            self.http.get("/v1/search", params={"pageSize": SEARCH_SIZE, "query": question}).raise_for_status()
        return [self._search(each) for each in self.random.choices(self._questions, k=count)]

    def new_searches(self, count: int) -> list[Request]:
        """For words that were never asked for together."""
        pairs = zip(*(self.random.choices(self._questions, k=count) for _ in range(2)), strict=True)
        return [self._search(f"{one} {' '.join(other.split()[-5:])}") for one, other in pairs]

    def creates(self, count: int) -> list[Request]:
        first = self.items + self._made
        self._made += count
        return [self._create(number, self.draft_kind, "") for number in range(first, first + count)]

    def updates(self, count: int) -> list[Request]:
        self.updated = [self._ids[number % len(self._ids)] for number in range(self._made, self._made + count)]
        self._made += count
        return [
            self.request(
                "PATCH",
                f"/v1/contents/{each}?updateMask=description.en",
                expects=(text := f"Edited {self.random.random()}"),
                body={"description": {"en": text}},
            )
            for each in self.updated
        ]

    def publishes(self, _: int) -> list[Request]:
        """Of the items updated last: publishing another would change nothing."""
        return [self.publish(each) for each in self.updated]

    def logins(self, count: int) -> list[Request]:
        return [load.request("POST", "/v1/auth:login", body=self._credentials, expects='"accessToken":"')] * count

    def _search(self, question: str) -> Request:
        path = f"/v1/search?pageSize={SEARCH_SIZE}&query={quote(question)}"
        return load.request("GET", path, expects='"highlights":[{')

    def _read(self, content_id: str) -> Request:
        return load.request("GET", f"/v1/contents/{content_id}", expects=f'"id":"{content_id}"')

    def request(self, verb: str, path: str, *, expects: str, body: object = None) -> Request:
        return load.request(verb, path, expects=expects, body=body, token=self._token)

    def _create(self, number: int, kind: str, external_id: str) -> Request:
        chosen = random.Random(number)  # an item is the same in every run
        sentences = {locale: chosen.sample(self._sentences[locale], SENTENCES + 1) for locale in LOCALES}
        item = {
            **self.more(number),
            "type": kind,
            "title": {each: f"{WORD[each]} {number} {_beginning(sentences[each][0])}" for each in LOCALES},
            "body": {each: " ".join(sentences[each][1:]) for each in LOCALES},
            "category": f"category-{number % 20}",
            "tags": [f"tag-{number % 50}", f"series-{number % 7}"],
            "externalId": external_id,
        }
        return self.request("POST", "/v1/contents", expects=f'"type":"{kind}"', body=item)

    def publish(self, content_id: str) -> Request:
        return self.request("POST", f"/v1/contents/{content_id}:publish", expects='"state":"PUBLISHED"', body={})

    def more(self, number: int) -> dict[str, Any]:  # noqa: ARG002 — what others make it of
        """What the item of a number holds beside its texts."""
        return {}

    def ask_all(self, what: str, requests: Iterable[Request], count: int, progress: Progress) -> None:
        """Ask each once.

        Raises:
            RuntimeError: one was not answered as it should be.
        """
        if not count:
            return
        task = progress.add_task(what, total=count)
        outcome = load.ask(
            self.server,
            requests,
            connections=SEEDING_CONNECTIONS,
            answered=lambda *_: progress.advance(task),
        )
        failed = count - outcome.answers
        if failed:
            raise RuntimeError(f"{what}: {failed} failed, such as {outcome.errors}")

    def stored(self, kind: str) -> dict[str, Any]:
        """The drafts of a type, by external id, or by id where they have none."""
        found: dict[str, Any] = {}
        for page in self._walk(filter=f'type = "{kind}"', pageSize=200, view="DRAFT"):
            for item in page["contents"]:
                found[item["externalId"] or item["id"]] = {key: item[key] for key in ("id", "state", "slug")}
        return found

    def _full_pages(self) -> list[tuple[str, str]]:
        """The tokens of the first pages of what readers see, each with the id of its last item."""
        pages: list[tuple[str, str]] = []
        token = ""
        for page in self._walk(**self.list_query, view="PUBLISHED"):
            token, asked = page["nextPageToken"], token
            if not token or len(pages) == PAGES:
                break
            pages.append((asked, page["contents"][-1]["id"]))
        return pages

    def _walk(self, **parameters: str | int) -> Iterator[dict[str, Any]]:
        """Every page of a list."""
        token = ""
        while True:
            query = urlencode({**parameters, "pageToken": token}, quote_via=quote)
            answer = self.http.get(f"/v1/contents?{query}", headers={"authorization": f"Bearer {self._token}"})
            page: dict[str, Any] = answer.raise_for_status().json()
            yield page
            token = page["nextPageToken"]
            if not token:
                return

    def _wait_for_search(self, progress: Progress) -> None:
        task = progress.add_task("search converges", total=self.items)
        give_up = time.monotonic() + CONVERGED_SECONDS + self.items / CONVERGED_PER_SECOND
        while True:
            query = urlencode({"query": WORD["en"], "filter": f'type = "{self.kind}"', "pageSize": 1}, quote_via=quote)
            answer = self.http.get(f"/v1/search?{query}")
            found = answer.raise_for_status().json()["totalSize"]
            progress.update(task, completed=found)
            if found >= self.items:
                return
            if time.monotonic() > give_up:
                raise RuntimeError(f"search knows {found} of {self.items} items and does not go on")
            time.sleep(0.5)


def read_lines(path: Path) -> list[dict[str, str]]:
    """The objects of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _beginning(sentence: str) -> str:
    return " ".join(sentence.split()[:8])
