"""Domain errors, and the table that maps them to HTTP statuses.

Code below the routes raises these errors, and only the table refers to HTTP. `detail` states cause and cure, with the
offending value. `pointer` is the JSON pointer (RFC 6901) of the field at fault. `allowed` is what that field accepts.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    """The request is well formed but cannot be computed, because of its shapes, ranges or degenerate points.

    `others` are further mistakes in the same request, which the answer lists after this one.
    """

    others: tuple[InvalidInput, ...] = ()

    @classmethod
    def together(cls, errors: Sequence[InvalidInput]) -> InvalidInput:
        """The first error, with all later ones as its `others`. `errors` has at least one."""
        first, *others = [one for error in errors for one in (error, *error.others)]
        first.others = tuple(others)
        return first


class MalformedBody(LatentserveError):
    """The body is not valid for its media type: broken JSON, or a damaged form."""


class UnsupportedMediaType(LatentserveError):
    """The endpoint does not read the media type of the body."""


class NotAcceptable(LatentserveError):
    """The endpoint has no answer in a media type that `Accept` allows."""


class UnknownCheckpoint(LatentserveError):
    """The request names a checkpoint other than the one being served."""


class BodyTooLarge(LatentserveError):
    """The body, or its number of elements, exceeds the operator's limit."""


class Overloaded(LatentserveError):
    """The queue is full, or the predicted wait exceeds the job's deadline.

    `retry_after` is in seconds. So is `predicted`, the time that a job would have taken from now on; 0 if that is not
    the reason.
    """

    def __init__(self, detail: str, *, retry_after: float, predicted: float = 0.0) -> None:
        super().__init__(detail)
        self.retry_after = retry_after
        self.predicted = predicted


class ShuttingDown(Overloaded):
    """The service is stopping and accepts no new work."""


class DeviceLost(Overloaded):
    """The device of this process has failed. Another process takes its place."""


class DeadlineExceeded(LatentserveError):
    """The caller's deadline passed before the result was ready."""


class WorkerFailed(LatentserveError):
    """The computation of this job failed, even alone in its batch."""


class OutOfMemory(WorkerFailed):
    """This job needs more memory than the device has, even alone in its batch."""


class CheckpointError(LatentserveError):
    """A checkpoint is missing or damaged, or differs from its manifest. The service does not start."""


class StatusOf(NamedTuple):
    """The HTTP status of one kind of error, and the last part of the problem's `type`."""

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
    DeviceLost: StatusOf(HTTPStatus.SERVICE_UNAVAILABLE, "device-lost"),
    ShuttingDown: StatusOf(HTTPStatus.SERVICE_UNAVAILABLE, "shutting-down"),
    DeadlineExceeded: StatusOf(HTTPStatus.GATEWAY_TIMEOUT, "deadline-exceeded"),
    OutOfMemory: StatusOf(HTTPStatus.SERVICE_UNAVAILABLE, "out-of-memory"),
    WorkerFailed: StatusOf(HTTPStatus.INTERNAL_SERVER_ERROR, "worker-failed"),
    CheckpointError: StatusOf(HTTPStatus.INTERNAL_SERVER_ERROR, "checkpoint"),
    LatentserveError: StatusOf(HTTPStatus.INTERNAL_SERVER_ERROR, "internal"),
}


def status_of(error: LatentserveError) -> StatusOf:
    """The row of the table for the class of `error`, or for its nearest ancestor that has a row."""
    return next(HTTP_STATUS[kind] for kind in type(error).__mro__ if kind in HTTP_STATUS)
