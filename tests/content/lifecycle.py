"""What an item is after any steps, as the contracts and docs/ say it: a model to compare the service with.

It is plain Python and shares no code with the service. A step that may not be taken is refused for one of the reasons
that hold, whichever is found first.
"""

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Texts = dict[str, dict[str, str]]

LOCALISED = ("title", "description", "synopsis")
SHARED = ("tags", "length", "about")


class Refused(Exception):
    """The step may not be taken, for any of these reasons."""

    def __init__(self, *reasons: str) -> None:
        super().__init__(", ".join(reasons))
        self.reasons = set(reasons)


@dataclass(frozen=True)
class Policy:
    """What the type of the item asks for."""

    approvals: int = 0
    author_may_approve: bool = False
    required_locales: tuple[str, ...] = ()
    synopsis_required: bool = False


@dataclass(frozen=True)
class Step:
    """Somebody's request."""

    actor: str
    verb: str
    locales: tuple[str, ...] = ()
    values: tuple[tuple[str, str], ...] = ()
    """For an update: paths, such as `title.ar`, and their new values, "" to clear."""
    number: int = 0
    """Of a revision, or of hours from now."""
    action: str = ""
    etag: bool = False
    """Whether it is based on the item as it was made, which may be long ago."""
    autosave: bool = False


@dataclass
class Review:
    revision: int
    submitted_by: str
    approvals: list[str] = field(default_factory=list)


@dataclass
class Planned:
    action: str
    locales: tuple[str, ...]
    hours: int
    state: str = "PENDING"
    problem: str = ""
    """The reasons, any of which the item may name."""


@dataclass(frozen=True)
class Made:
    """What a text was made from."""

    locale: str
    version: int
    stale: bool = False


@dataclass
class Saved:
    number: int
    author: str
    autosave: bool
    texts: Texts
    shared: dict[str, str]
    translations: dict[str, Made]


@dataclass
class Item:
    """An item, from its creation on."""

    policy: Policy
    texts: Texts
    shared: dict[str, str]
    version: int = 1
    deleted: bool = False
    published: dict[str, dict[str, str]] = field(default_factory=dict)
    """For each locale that readers see, its texts."""
    published_shared: dict[str, str] = field(default_factory=dict)
    newer: set[str] = field(default_factory=set)
    """Locales whose texts were changed since they were published; "" when what they share was."""
    reviews: dict[str, Review] = field(default_factory=dict)
    archived: set[str] = field(default_factory=set)
    planned: list[Planned] = field(default_factory=list)
    changed: dict[str, int] = field(default_factory=dict)
    """The version that last changed each path."""
    follows: dict[str, Made] = field(default_factory=dict)
    """By path, what a text says the same as where that is another locale's."""
    history: list[Saved] = field(default_factory=list)

    @classmethod
    def made(cls, policy: Policy, texts: Texts, author: str) -> "Item":
        item = cls(policy, {name: dict(texts.get(name, {})) for name in LOCALISED}, dict.fromkeys(SHARED, ""))
        item.changed = dict.fromkeys(item._paths(), 1)
        item._save(author, autosave=False)
        return item

    # What is to be seen of it.

    @property
    def titled(self) -> set[str]:
        return set(self.texts["title"])

    def is_newer(self, locale: str) -> bool:
        """Whether a locale's draft is anything else than what its readers see."""
        return locale not in self.published or bool({locale, ""} & self.newer)

    def stage(self, locale: str) -> str:
        if locale in self.archived:
            return "ARCHIVED"
        if any(
            each.action == "PUBLISH" and each.state == "PENDING" and locale in (each.locales or self.titled)
            for each in self.planned
        ):
            return "SCHEDULED"
        if locale not in self.reviews:
            return "DRAFT"
        return "APPROVED" if self._approved(locale) else "IN_REVIEW"

    def states(self) -> dict[str, tuple[str, str]]:
        """For each locale its state, and that of the draft beside what is published."""
        return {
            locale: ("PUBLISHED", self.stage(locale) if self.is_newer(locale) else "")
            if locale in self.published
            else (self.stage(locale), "")
            for locale in self.titled | set(self.published)
        }

    def state(self) -> str:
        found = {state for state, _ in self.states().values()}
        if found == {"ARCHIVED"}:
            return "ARCHIVED"
        order = ("PUBLISHED", "SCHEDULED", "APPROVED", "IN_REVIEW")
        return next((state for state in order if state in found), "DRAFT")

    def stale(self) -> set[str]:
        """Locales with a text that says less than another locale's."""
        return {path.partition(".")[2] for path, made in self.translations().items() if made.stale}

    def translations(self) -> dict[str, Made]:
        """What each text was made from that follows, or should follow, another locale's."""
        found = {path: made for path, made in self.follows.items() if made.locale in self.texts[path.partition(".")[0]]}
        for name in LOCALISED:
            said = {locale: self._said(f"{name}.{locale}") for locale in self.texts[name]}
            # Of equal ones, that which was not made from another is the source.
            newest = max(said, key=lambda each: (said[each], f"{name}.{each}" not in self.follows, each), default="")
            for locale, version in said.items():
                if version < said[newest]:
                    found[f"{name}.{locale}"] = Made(newest, version, stale=True)
        return found

    def _said(self, path: str) -> int:
        """The version of the item that a text says the same as."""
        return self.follows[path].version if path in self.follows else self.changed.get(path, 0)

    def _follow(self, texts: Texts, touched: set[str], read: int, restored: dict[str, Made] | None) -> None:
        """Say what texts that become others are made from.

        Args:
            read: the version that their author knew.
            restored: what they were made from, when a revision comes back.
        """
        follows = {path: made for path, made in self.follows.items() if path not in touched}
        for path in touched - {*SHARED}:
            name, _, locale = path.partition(".")
            if locale not in texts[name]:
                continue
            made = (restored or {}).get(path)
            if made is not None and (made.stale or f"{name}.{made.locale}" not in touched):
                follows[path] = replace(made, stale=False)  # it says what it said
                continue
            others = {each: self._said(f"{name}.{each}") for each in texts[name] if f"{name}.{each}" not in touched}
            source = max(others, key=lambda each: (others[each], each), default="")
            if restored is not None:
                to_follow = restored.get(f"{name}.{source}")
                known = read if to_follow is not None and to_follow.stale else 0
            else:
                known = min(read, self._said(path)) if locale in self.texts[name] else 0
            if others.get(source, 0) > known:  # it catches up; else it is new, and the others are to follow
                follows[path] = Made(source, min(others[source], read))
        self.follows = follows

    # What may be done with it.

    def take(self, step: Step) -> None:
        """Take a step.

        Raises:
            Refused: it may not be taken; nothing changed.
        """
        if step.actor == "anonymous":
            raise Refused("TOKEN_MISSING")
        if step.actor == "reader":
            raise Refused("PERMISSION_DENIED")
        if step.verb == "restore_revision" and self._revision(step.number) is None:
            raise Refused("REVISION_NOT_FOUND")
        if self.deleted != (step.verb == "undelete"):
            raise Refused("CONTENT_NOT_FOUND")
        by_field = step.verb == "update"
        if step.etag and not by_field and self.version != 1:
            raise Refused("ETAG_MISMATCH")
        before = copy.deepcopy(self)
        try:
            if getattr(self, f"_{step.verb}")(step):
                self.version += 1
        except Refused:
            self.__dict__.update(before.__dict__)
            raise

    def come_due(self) -> bool:
        """The instant of what is planned first comes; False when nothing is planned."""
        pending = [each for each in self.planned if each.state == "PENDING"]
        if not pending:
            return False
        first = min(pending, key=lambda each: each.hours)
        step = Step("", first.action.lower(), first.locales)
        self.planned.remove(first)
        try:
            getattr(self, f"_{step.verb}")(step)
        except Refused as refused:
            first.state, first.problem = "FAILED", " ".join(sorted(refused.reasons))
            self.planned.append(first)
        self.version += 1
        return True

    def _update(self, step: Step) -> bool:
        texts, shared = copy.deepcopy(self.texts), dict(self.shared)
        reasons: set[str] = set()
        for path, value in step.values:
            name, _, locale = path.partition(".")
            if not locale:
                shared[name] = value
            elif value:
                texts[name][locale] = value
            elif name != "synopsis" and locale not in self.titled | set(self.texts[name]):
                reasons.add("INVALID_REQUEST")
            else:
                texts[name].pop(locale, None)
        return self._become(texts, shared, step, reasons, read=1 if step.etag else self.version)

    def _restore_revision(self, step: Step) -> bool:
        saved = self._revision(step.number)
        assert saved is not None
        texts, shared = copy.deepcopy(saved.texts), dict(saved.shared)
        return self._become(texts, shared, step, set(), read=saved.number, restored=saved.translations)

    def _become(
        self,
        texts: Texts,
        shared: dict[str, str],
        step: Step,
        reasons: set[str],
        *,
        read: int,
        restored: dict[str, Made] | None = None,
    ) -> bool:
        touched = {
            f"{name}.{locale}"
            for name in LOCALISED
            for locale in texts[name].keys() | self.texts[name].keys()
            if texts[name].get(locale) != self.texts[name].get(locale)
        } | {name for name in SHARED if shared[name] != self.shared[name]}
        locales = {path.partition(".")[2] for path in touched}
        if not texts["title"]:
            reasons.add("INVALID_REQUEST")
        if locales & self.archived or ("" in locales and self.archived >= self.titled):
            reasons.add("LOCALE_ARCHIVED")
        if step.etag and any(self.changed.get(path, 0) > 1 for path in touched):
            reasons.add("ETAG_MISMATCH")
        if reasons:
            raise Refused(*reasons)
        if not touched:
            return False
        self._follow(texts, touched, read, restored)
        self.texts, self.shared = texts, shared
        self.newer |= locales
        self.changed |= dict.fromkeys(touched, self.version + 1)
        self.reviews = {} if "" in locales else {at: each for at, each in self.reviews.items() if at not in locales}
        self._save(step.actor, autosave=step.autosave)
        return True

    def _submit(self, step: Step) -> bool:
        open_ones = {locale for locale in self.titled - self.archived if self.is_newer(locale)}
        chosen = set(step.locales or open_ones)
        self._refuse(
            LOCALE_INCOMPLETE=chosen - self.titled,
            LOCALE_ARCHIVED=chosen & self.archived,
            NOTHING_TO_REVIEW=(chosen & self.titled - self.archived) - open_ones or not chosen,
        )
        revision = self.history[-1].number
        news = {
            locale
            for locale in chosen
            if (review := self.reviews.get(locale)) is None
            or (review.revision, review.submitted_by) != (revision, step.actor)
        }
        self.reviews |= {locale: Review(revision, step.actor) for locale in news}
        return bool(news)

    def _approve(self, step: Step) -> bool:
        waiting = {locale for locale in self.reviews if not self._approved(locale)}
        chosen = set(step.locales or waiting)
        self._refuse(NOT_IN_REVIEW=chosen - set(self.reviews) or not chosen)
        if not self.policy.author_may_approve:
            authors = {saved.number: saved.author for saved in self.history}
            reviews = [self.reviews[locale] for locale in chosen]
            self._refuse(
                OWN_WORK=any(step.actor in (each.submitted_by, authors.get(each.revision)) for each in reviews)
            )
        news = {locale for locale in chosen if step.actor not in self.reviews[locale].approvals}
        for locale in news:
            self.reviews[locale].approvals.append(step.actor)
        return bool(news)

    def _give_back(self, step: Step) -> bool:
        chosen = set(step.locales or self.reviews)
        self._refuse(NOT_IN_REVIEW=chosen - set(self.reviews) or not chosen)
        self.reviews = {locale: each for locale, each in self.reviews.items() if locale not in chosen}
        return True

    def _publish(self, step: Step) -> bool:
        chosen = self._publishable(step)
        if not any(map(self.is_newer, chosen)):
            return False
        self.published |= {locale: self._of_locale(locale) for locale in chosen}
        self.published_shared = dict(self.shared)
        self.newer -= {"", *chosen}
        # Where readers see the draft, there is nothing left to review.
        self.reviews = {locale: each for locale, each in self.reviews.items() if self.is_newer(locale)}
        return True

    def _publishable(self, step: Step) -> set[str]:
        chosen = set(step.locales or self.titled - self.archived)
        policy = self.policy
        self._refuse(
            LOCALE_INCOMPLETE=chosen - self.titled
            or (policy.synopsis_required and chosen - set(self.texts["synopsis"])),
            LOCALE_ARCHIVED=chosen & self.archived or not chosen,
        )
        self._refuse(TRANSLATION_INCOMPLETE=set(policy.required_locales) - (self.titled - self.archived))
        self._refuse(
            APPROVAL_MISSING=policy.approvals
            and [locale for locale in chosen if self.is_newer(locale) and not self._approved(locale)]
        )
        return chosen

    def _unpublish(self, step: Step) -> bool:
        gone = set(step.locales or self.published) & set(self.published)
        self.published = {locale: each for locale, each in self.published.items() if locale not in gone}
        return bool(gone)

    def _archive(self, step: Step) -> bool:
        there = self.titled | set(self.published)
        chosen = set(step.locales or there) - self.archived
        self._refuse(LOCALE_INCOMPLETE=chosen - there)
        if not chosen:
            return False
        # To readers it is a change of its own.
        self.version += self._unpublish(Step("", "unpublish", tuple(chosen)))
        put_away = self.archived | chosen
        self.archived |= chosen & self.titled
        self.reviews = {locale: each for locale, each in self.reviews.items() if locale not in chosen}
        self.planned = [
            each for each in self.planned if not set(each.locales or self.titled) <= put_away and self.titled - put_away
        ]
        return True

    def _restore(self, step: Step) -> bool:
        chosen = set(step.locales or self.archived) & self.archived
        self.archived -= chosen
        return bool(chosen)

    def _schedule(self, step: Step) -> bool:
        planned = Planned(step.action, step.locales, step.number)
        if planned in self.planned:
            return False
        if step.action == "PUBLISH":
            self._publishable(step)
        self.planned.append(planned)
        return True

    def _unschedule(self, _step: Step) -> bool:
        had, self.planned = bool(self.planned), []
        return had

    def _delete(self, _step: Step) -> bool:
        self.deleted = True
        self.published, self.reviews, self.archived, self.planned = {}, {}, set(), []
        return True

    def _undelete(self, _step: Step) -> bool:
        self.deleted = False
        return True

    def _approved(self, locale: str) -> bool:
        review = self.reviews.get(locale)
        return review is not None and len(review.approvals) >= max(1, self.policy.approvals)

    def _of_locale(self, locale: str) -> dict[str, str]:
        return {name: self.texts[name][locale] for name in LOCALISED if locale in self.texts[name]}

    def _paths(self) -> list[str]:
        return [f"{name}.{locale}" for name in LOCALISED for locale in self.texts[name]]

    def _revision(self, number: int) -> Saved | None:
        return next((saved for saved in self.history if saved.number == number), None)

    def _save(self, author: str, *, autosave: bool) -> None:
        last = self.history[-1] if self.history else None
        if autosave and last is not None and last.autosave and last.author == author:
            self.history.pop()
        number = self.version + 1 if last is not None else 1
        texts = copy.deepcopy(self.texts)
        self.history.append(Saved(number, author, autosave, texts, dict(self.shared), self.translations()))

    @staticmethod
    def _refuse(**reasons: Collection[Any] | Mapping[str, Any] | float) -> None:
        if wrong := [reason for reason, holds in reasons.items() if holds]:
            raise Refused(*wrong)
