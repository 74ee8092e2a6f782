"""Page tokens: they come back as they were, for their question alone."""

import base64
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from libs import paging
from libs.errors import InvalidArgument

KEYS = st.lists(st.text() | st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=3)
QUESTION = st.tuples(st.text(), st.booleans(), st.text())


@given(KEYS, QUESTION)
def test_a_token_brings_its_keys_back(keys: list[str | float], question: tuple[object, ...]) -> None:
    token = paging.token(keys, question)

    assert paging.keys(token, question, [type(key) for key in keys]) == keys
    assert token.isascii()
    assert not set(token) & set("+/=&?# ")


@given(KEYS, QUESTION, QUESTION)
def test_a_token_belongs_to_its_question(
    keys: list[str | float], question: tuple[object, ...], other: tuple[object, ...]
) -> None:
    if question == other:
        return
    with pytest.raises(InvalidArgument) as caught:
        paging.keys(paging.token(keys, question), other, [type(key) for key in keys])
    assert list(caught.value.violations) == ["pageToken"]


def forged(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@given(
    st.text()
    | st.text(st.sampled_from("ABCabc019-_="))
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.floats(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ).map(forged)
)
@example(forged([]))
@example(forged({}))
@example(forged(["digest"]))
@example(base64.b64encode(b"[" * 700).decode())
@example(base64.b64encode(b"[" * 100_000).decode())
@example(base64.b64encode(b'["a", ' + b"9" * 5000 + b"]").decode())
def test_what_is_no_token_is_refused_and_breaks_nothing(token: str) -> None:
    if not token:
        assert paging.keys(token, ("q",), (str, str)) is None
        return
    with pytest.raises(InvalidArgument) as caught:
        paging.keys(token, ("q",), (str, str))
    assert list(caught.value.violations) == ["pageToken"]


@pytest.mark.parametrize("kinds", [(str,), (str, str), (int,), (float, float), ()])
def test_keys_of_other_kinds_are_refused(kinds: tuple[type, ...]) -> None:
    token = paging.token([1.5], ("q",))

    with pytest.raises(InvalidArgument):
        paging.keys(token, ("q",), kinds)


def test_a_page_has_a_size() -> None:
    assert (paging.size(0), paging.size(1), paging.size(200)) == (50, 1, 200)
