"""What a load test asks for: bilingual items, made and found through the public API, and requests about them."""

import json
import random
import re
import time
from collections.abc import Iterator, Sequence
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
SEEDING_CONNECTIONS = 16
CONVERGED_SECONDS = 120.0


class Workload:
    """What the scenarios ask: the seeded items, questions and page tokens."""

    def __init__(self, server: str, email: str, password: str, data: Path, items: int) -> None:
        self.server = server
        self.items = items
        self._credentials = {"email": email, "password": password}
        self._http = httpx.Client(base_url=f"http://{server}", timeout=30)
        self._random = random.Random(1)  # the same requests in every run
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
        self._ids: list[str] = []
        self._pages: list[tuple[str, str]] = []
        self._made = 0
        self._token = ""
        self.updated: list[str] = []
        """The items of the last `updates`, in order."""

    def sign_in(self) -> None:
        """Get a fresh access token."""
        answer = self._http.post("/v1/auth:login", json=self._credentials).raise_for_status()
        self._token = answer.json()["accessToken"]

    def seed(self, progress: Progress) -> None:
        """See that the items are there, published and found; those that are already, stay."""
        self.sign_in()
        names = {f"{KIND}-{number}": number for number in range(self.items)}
        stored = self._stored(KIND)
        missing = [self._create(number, KIND, name) for name, number in names.items() if name not in stored]
        self._all("creating", missing, progress)
        stored = self._stored(KIND)
        drafts = [self._publish(stored[name]["id"]) for name in names if stored[name]["state"] != "PUBLISHED"]
        self._all("publishing", drafts, progress)
        self._ids = [stored[name]["id"] for name in names]
        self._random.shuffle(self._ids)
        self._wait_for_search(progress)
        self._pages = self._full_pages()
        # What is measured is a mesh at work, not one that reads each item for the first time.
        self._all("reading", [self._read(each) for each in self._ids], progress)

    def clear(self, progress: Progress) -> None:
        """Delete what `creates` made."""
        self.sign_in()
        made = [item["id"] for item in self._stored(DRAFT_KIND).values()]
        deletions = [self._request("DELETE", f"/v1/contents/{each}", expects=each) for each in made]
        self._all("deleting", deletions, progress)

    def floors(self, count: int) -> list[Request]:
        return [load.request("GET", "/healthz", expects='"SERVING"')] * count

    def reads(self, count: int) -> list[Request]:
        return [self._read(each) for each in self._random.choices(self._ids, k=count)]

    def lists(self, count: int) -> list[Request]:
        return [
            load.request(
                "GET",
                f"/v1/contents?{urlencode({'pageSize': LIST_SIZE, 'pageToken': token})}",
                expects=f'"id":"{last}"',
            )
            for token, last in self._random.choices(self._pages, k=count)
        ]

    def searches(self, count: int) -> list[Request]:
        # As reads are of items that were read before: what nobody asked before has a scenario of its own.
        for question in self._questions:
            self._http.get("/v1/search", params={"pageSize": SEARCH_SIZE, "query": question}).raise_for_status()
        return [self._search(each) for each in self._random.choices(self._questions, k=count)]

    def new_searches(self, count: int) -> list[Request]:
        """For words that were never asked for together."""
        pairs = zip(*(self._random.choices(self._questions, k=count) for _ in range(2)), strict=True)
        return [self._search(f"{one} {' '.join(other.split()[-5:])}") for one, other in pairs]

    def creates(self, count: int) -> list[Request]:
        first = self.items + self._made
        self._made += count
        return [self._create(number, DRAFT_KIND, "") for number in range(first, first + count)]

    def updates(self, count: int) -> list[Request]:
        self.updated = [self._ids[number % len(self._ids)] for number in range(self._made, self._made + count)]
        self._made += count
        return [
            self._request(
                "PATCH",
                f"/v1/contents/{each}?updateMask=description.en",
                expects=(text := f"Edited {self._random.random()}"),
                body={"description": {"en": text}},
            )
            for each in self.updated
        ]

    def publishes(self, _: int) -> list[Request]:
        """Of the items updated last: publishing another would change nothing."""
        return [self._publish(each) for each in self.updated]

    def logins(self, count: int) -> list[Request]:
        return [load.request("POST", "/v1/auth:login", body=self._credentials, expects='"accessToken":"')] * count

    def _search(self, question: str) -> Request:
        path = f"/v1/search?pageSize={SEARCH_SIZE}&query={quote(question)}"
        return load.request("GET", path, expects='"highlights":[{')

    def _read(self, content_id: str) -> Request:
        return load.request("GET", f"/v1/contents/{content_id}", expects=f'"id":"{content_id}"')

    def _request(self, verb: str, path: str, *, expects: str, body: object = None) -> Request:
        return load.request(verb, path, expects=expects, body=body, token=self._token)

    def _create(self, number: int, kind: str, external_id: str) -> Request:
        chosen = random.Random(number)  # an item is the same in every run
        sentences = {locale: chosen.sample(self._sentences[locale], SENTENCES + 1) for locale in LOCALES}
        item = {
            "type": kind,
            "title": {each: f"{WORD[each]} {number} {_beginning(sentences[each][0])}" for each in LOCALES},
            "body": {each: " ".join(sentences[each][1:]) for each in LOCALES},
            "category": f"category-{number % 20}",
            "tags": [f"tag-{number % 50}", f"series-{number % 7}"],
            "externalId": external_id,
        }
        return self._request("POST", "/v1/contents", expects=f'"type":"{kind}"', body=item)

    def _publish(self, content_id: str) -> Request:
        return self._request("POST", f"/v1/contents/{content_id}:publish", expects='"state":"PUBLISHED"', body={})

    def _all(self, what: str, requests: Sequence[Request], progress: Progress) -> None:
        """Ask each once.

        Raises:
            RuntimeError: one was not answered as it should be.
        """
        if not requests:
            return
        task = progress.add_task(what, total=len(requests))
        outcome = load.ask(
            self.server,
            requests,
            connections=SEEDING_CONNECTIONS,
            answered=lambda *_: progress.advance(task),
        )
        failed = len(requests) - outcome.answers
        if failed:
            raise RuntimeError(f"{what}: {failed} failed, such as {outcome.errors}")

    def _stored(self, kind: str) -> dict[str, Any]:
        """The drafts of a type, by external id, or by id where they have none."""
        found: dict[str, Any] = {}
        for page in self._walk(filter=f'type = "{kind}"', pageSize=200, view="DRAFT"):
            for item in page["contents"]:
                found[item["externalId"] or item["id"]] = {"id": item["id"], "state": item["state"]}
        return found

    def _full_pages(self) -> list[tuple[str, str]]:
        """The tokens of the first pages of what readers see, each with the id of its last item."""
        pages: list[tuple[str, str]] = []
        token = ""
        for page in self._walk(pageSize=LIST_SIZE, view="PUBLISHED"):
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
            answer = self._http.get(f"/v1/contents?{query}", headers={"authorization": f"Bearer {self._token}"})
            page: dict[str, Any] = answer.raise_for_status().json()
            yield page
            token = page["nextPageToken"]
            if not token:
                return

    def _wait_for_search(self, progress: Progress) -> None:
        task = progress.add_task("search converges", total=self.items)
        give_up = time.monotonic() + CONVERGED_SECONDS
        while True:
            query = urlencode({"query": WORD["en"], "filter": f'type = "{KIND}"', "pageSize": 1}, quote_via=quote)
            answer = self._http.get(f"/v1/search?{query}")
            found = answer.raise_for_status().json()["totalSize"]
            progress.update(task, completed=found)
            if found >= self.items:
                return
            if time.monotonic() > give_up:
                raise RuntimeError(f"search knows {found} of {self.items} items after {CONVERGED_SECONDS:.0f} s")
            time.sleep(0.5)


def read_lines(path: Path) -> list[dict[str, str]]:
    """The objects of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _beginning(sentence: str) -> str:
    return " ".join(sentence.split()[:8])
