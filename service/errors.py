"""The tree of domain errors, and the one table that turns an error into an HTTP status.

Everything below the routes raises these; only the table knows HTTP. An error says cause and cure, with the
offending value, in `detail`; `pointer` is the JSON pointer (RFC 6901) of the field that caused it, and `allowed`
says what would have been accepted there.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import NamedTuple


class LatentserveError(Exception):
    """Base of all errors that Latentserve raises on purpose."""

    def __init__(self, detail: str, *, pointer: str = "", allowed: object = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.pointer = pointer
        self.allowed = allowed


class InvalidInput(LatentserveError):
    """The request is well formed and cannot be computed: shapes, ranges, degenerate sets."""


class MalformedBody(LatentserveError):
    """The body is not what its media type says: broken JSON, a damaged form."""


class UnsupportedMediaType(LatentserveError):
    """The body's media type is not one that the endpoint reads."""


class NotAcceptable(LatentserveError):
    """None of the forms that the client accepts is one that the answer has."""


class UnknownCheckpoint(LatentserveError):
    """The request names a checkpoint other than the one being served."""


class BodyTooLarge(LatentserveError):
    """The body, or the array inside it, is over the limit that the operator set."""


class Overloaded(LatentserveError):
    """The queue is full, or would not reach this job before its deadline. `retry_after` is in seconds."""

    def __init__(self, detail: str, *, retry_after: float) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class ShuttingDown(Overloaded):
    """The service drains and takes no new work."""


class DeadlineExceeded(LatentserveError):
    """The caller's own deadline passed before the result was there."""


class WorkerFailed(LatentserveError):
    """The computation itself broke for this one job, alone in its batch."""


class OutOfMemory(WorkerFailed):
    """The device ran out of memory for this one job, alone in its batch."""


class CheckpointError(LatentserveError):
    """A checkpoint is missing, damaged, or not the one that its manifest names. Start-up ends here."""


class StatusOf(NamedTuple):
    """What the wire says for one kind of error: the status and the last part of the problem's `type`."""

    status: HTTPStatus
    slug: str


HTTP_STATUS: dict[type[LatentserveError], StatusOf] = {
    MalformedBody: StatusOf(HTTPStatus.BAD_REQUEST, "malformed-body"),
    UnknownCheckpoint: StatusOf(HTTPStatus.NOT_FOUND, "unknown-checkpoint"),
    NotAcceptable: StatusOf(HTTPStatus.NOT_ACCEPTABLE, "not-acceptable"),
    BodyTooLarge: StatusOf(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body-too-large"),
    UnsupportedMediaType: StatusOf(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type"),
    InvalidInput: StatusOf(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-input"),
    Overloaded: StatusOf(HTTPStatus.SERVICE_UNAVAILABLE, "overloaded"),
    ShuttingDown: StatusOf(HTTPStatus.SERVICE_UNAVAILABLE, "shutting-down"),
    DeadlineExceeded: StatusOf(HTTPStatus.GATEWAY_TIMEOUT, "deadline-exceeded"),
    OutOfMemory: StatusOf(HTTPStatus.SERVICE_UNAVAILABLE, "out-of-memory"),
    WorkerFailed: StatusOf(HTTPStatus.INTERNAL_SERVER_ERROR, "worker-failed"),
    CheckpointError: StatusOf(HTTPStatus.INTERNAL_SERVER_ERROR, "checkpoint"),
    LatentserveError: StatusOf(HTTPStatus.INTERNAL_SERVER_ERROR, "internal"),
}


def status_of(error: LatentserveError) -> StatusOf:
    """The table's row for `error`: its own class, or the nearest ancestor that has one."""
    return next(HTTP_STATUS[kind] for kind in type(error).__mro__ if kind in HTTP_STATUS)
