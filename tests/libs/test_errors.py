"""Errors: each has one status, and says the same to programs and people in two languages."""

import re
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from libs import errors, rpc

CODES = {
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Conflict: grpc.StatusCode.ABORTED,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.Forbidden: grpc.StatusCode.PERMISSION_DENIED,
    errors.Exhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
}
MADE_ALONE = {
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Internal: grpc.StatusCode.INTERNAL,
}


def details(status: status_pb2.Status) -> dict[str, object]:
    """The details of a status by the name of their type."""
    known = (
        error_details_pb2.ErrorInfo,
        error_details_pb2.LocalizedMessage,
        error_details_pb2.RequestInfo,
        error_details_pb2.BadRequest,
        error_details_pb2.RetryInfo,
    )
    found = {}
    for detail in status.details:
        for kind in known:
            message = kind()
            if detail.Unpack(message):
                found[kind.__name__] = message
    assert len(found) == len(status.details)
    return found


def test_every_error_is_in_the_table() -> None:
    assert {*CODES, *MADE_ALONE, errors.InvalidArgument} == set(errors.Failure.__subclasses__())


@pytest.mark.parametrize(("kind", "code"), CODES.items())
@pytest.mark.parametrize(("language", "message"), [("ar", "رسالة"), ("en", "a message")])
def test_an_error_says_what_it_was_given(
    kind: type[errors.Failure], code: grpc.StatusCode, language: str, message: str
) -> None:
    failure = kind(
        "REASON", "a message", "رسالة", violations={"a.b": "is wrong"}, metadata={"key": "value"}, retry_seconds=1.5
    )

    status = failure.status(language=language, request_id="request-1")

    assert rpc.grpc_code(failure) == code
    assert (status.code, status.message) == (code.value[0], "a message")
    said = details(status)
    assert said["ErrorInfo"] == error_details_pb2.ErrorInfo(
        reason="REASON", domain="thmnayah", metadata={"key": "value"}
    )
    assert said["LocalizedMessage"] == error_details_pb2.LocalizedMessage(locale=language, message=message)
    assert said["RequestInfo"] == error_details_pb2.RequestInfo(request_id="request-1")
    violation = error_details_pb2.BadRequest.FieldViolation(field="a.b", description="is wrong")
    assert said["BadRequest"] == error_details_pb2.BadRequest(field_violations=[violation])
    retry = said["RetryInfo"]
    assert isinstance(retry, error_details_pb2.RetryInfo)
    assert retry.retry_delay.ToMilliseconds() == 1500


def test_an_error_says_no_more_than_it_knows() -> None:
    said = details(errors.NotFound("REASON", "a message", "رسالة").status(language="en", request_id="r"))

    assert said.keys() == {"ErrorInfo", "LocalizedMessage", "RequestInfo"}


@pytest.mark.parametrize(("kind", "code"), MADE_ALONE.items())
def test_what_is_nobodys_choice_has_its_words_already(kind: type[errors.Failure], code: grpc.StatusCode) -> None:
    failure = kind()  # type: ignore[call-arg]  # those of this table take no argument

    assert rpc.grpc_code(failure) == code
    assert re.fullmatch(r"[A-Z][A-Z_]+", failure.reason)
    assert re.search("[\u0600-\u06ff]", failure.arabic)
    assert (failure.retry_seconds is not None) == (kind is errors.Unavailable)


def test_a_bad_request_names_its_fields_in_both_languages() -> None:
    failure = errors.InvalidArgument({"content.title.ar": "is required", "pageSize": "is too large"})

    assert rpc.grpc_code(failure) == grpc.StatusCode.INVALID_ARGUMENT
    for name in ("content.title.ar", "pageSize"):
        assert name in failure.english
        assert name in failure.arabic


def test_a_reason_is_spelt_as_reasons_are_and_explained_in_both_languages() -> None:
    raised = re.compile(
        r"(?:NotFound|AlreadyExists|FailedPrecondition|Conflict|Unauthenticated|Forbidden|Exhausted)\(\s*"
        r'(?:[\w.]+|f?"([^"]+)"),\s*f?"([^"]+)",\s*f?"([^"]+)"'
    )
    root = Path(errors.__file__).parents[1]
    found = [
        match
        for folder in ("libs", "services")
        for path in sorted((root / folder).rglob("*.py"))
        for match in raised.findall(path.read_text())
    ]

    assert len(found) >= 10
    for reason, english, arabic in found:
        assert not reason or re.fullmatch(r"[A-Z][A-Z_]+", reason)
        assert not re.search("[\u0600-\u06ff]", english)
        assert re.search("[\u0600-\u06ff]", arabic)
