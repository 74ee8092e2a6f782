"""The exceptions a service raises on purpose, each with its one gRPC status.

Callers branch on the reason, people read the message in their own language:

    raise NotFound("CONTENT_NOT_FOUND", f"no content {id}", f"لا يوجد محتوى {id}")
"""

from collections.abc import Mapping
from itertools import islice
from typing import ClassVar

from google.protobuf import duration_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

DOMAIN = "thmnayah"


# A status travels in headers, which gRPC bounds at 16 KiB together: what is longer would never arrive.
VIOLATIONS = 16
FIELD_CHARACTERS = 80
DESCRIPTION_CHARACTERS = 120
MESSAGE_CHARACTERS = 300
METADATA_CHARACTERS = 100


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 1] + "…"


class Failure(Exception):
    """A call that ends without its effect, and what the caller is told about it."""

    code: ClassVar[int]

    def __init__(
        self,
        reason: str,
        english: str,
        arabic: str,
        *,
        violations: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
        retry_seconds: float | None = None,
    ) -> None:
        """Args:
        reason: stable, UPPER_SNAKE_CASE, unique in the platform.
        violations: for each field that is wrong, its path from the request (`content.title.ar`), why.
        metadata: values that a program may want, never secrets.
        retry_seconds: when asking again may help, how long to wait first.
        """
        super().__init__(english)
        self.reason = reason
        self.english = english
        self.arabic = arabic
        self.violations = dict(violations or {})
        self.metadata = dict(metadata or {})
        self.retry_seconds = retry_seconds

    def status(self, *, language: str, request_id: str, code: int | None = None) -> status_pb2.Status:
        """The google.rpc.Status a caller receives; `language` is "ar" or "en", `code` the class's own."""
        told = self.arabic if language == "ar" else self.english
        details: list[Message] = [
            error_details_pb2.ErrorInfo(
                reason=self.reason,
                domain=DOMAIN,
                metadata={name: _cut(value, METADATA_CHARACTERS) for name, value in self.metadata.items()},
            ),
            error_details_pb2.LocalizedMessage(locale=language, message=_cut(told, MESSAGE_CHARACTERS)),
            error_details_pb2.RequestInfo(request_id=request_id),
        ]
        if self.violations:
            details.append(
                error_details_pb2.BadRequest(
                    field_violations=[
                        error_details_pb2.BadRequest.FieldViolation(
                            field=_cut(field, FIELD_CHARACTERS), description=_cut(description, DESCRIPTION_CHARACTERS)
                        )
                        for field, description in islice(self.violations.items(), VIOLATIONS)
                    ]
                )
            )
        if self.retry_seconds is not None:
            delay = duration_pb2.Duration()
            delay.FromMilliseconds(int(self.retry_seconds * 1000))
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        status = status_pb2.Status(
            code=self.code if code is None else code, message=_cut(self.english, MESSAGE_CHARACTERS)
        )
        for detail in details:
            status.details.add().Pack(detail)
        return status


class InvalidArgument(Failure):
    """A field that no rule of the contract can judge alone is wrong."""

    code = code_pb2.INVALID_ARGUMENT

    def __init__(self, violations: Mapping[str, str], *, reason: str = "INVALID_REQUEST", arabic: str = "") -> None:
        """Args:
        arabic: the same for people; without it, they are told the fields alone.
        """
        fields = ", ".join(violations)
        super().__init__(
            reason,
            "; ".join(f"{field}: {description}" for field, description in violations.items()),
            arabic or f"الطلب غير صالح؛ راجع الحقول: {fields}",
            violations=violations,
        )


class NotFound(Failure):
    """No such thing, or the caller may not know that there is."""

    code = code_pb2.NOT_FOUND


class AlreadyExists(Failure):
    """A unique value is taken."""

    code = code_pb2.ALREADY_EXISTS


class FailedPrecondition(Failure):
    """The request is right but the state is not; retrying will not help."""

    code = code_pb2.FAILED_PRECONDITION


class Conflict(Failure):
    """Someone else changed it: read again and retry."""

    code = code_pb2.ABORTED


class Unauthenticated(Failure):
    """No valid identity."""

    code = code_pb2.UNAUTHENTICATED


class Forbidden(Failure):
    """The caller may not do this."""

    code = code_pb2.PERMISSION_DENIED


class Exhausted(Failure):
    """Too much at once: retry later."""

    code = code_pb2.RESOURCE_EXHAUSTED


class Unavailable(Failure):
    """Something this service depends on is away; a retry may help."""

    code = code_pb2.UNAVAILABLE

    def __init__(
        self,
        reason: str = "DEPENDENCY_UNAVAILABLE",
        english: str = "a part of the platform is not reachable; try again",
        arabic: str = "تعذر الوصول إلى جزء من المنصة؛ حاول مرة أخرى",
        *,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(
            reason,
            english,
            arabic,
            metadata=metadata,
            retry_seconds=1,
        )


class DeadlineExceeded(Failure):
    """The caller's time ran out; the effect may still have happened."""

    code = code_pb2.DEADLINE_EXCEEDED

    def __init__(self) -> None:
        super().__init__("DEADLINE_EXCEEDED", "the deadline passed", "انتهت المهلة")


class Internal(Failure):
    """Anything else; the cause is logged under the request id and told to nobody."""

    code = code_pb2.INTERNAL

    def __init__(self) -> None:
        super().__init__("INTERNAL", "internal error", "خطأ داخلي")
