"""The form of an answer: what holds for every answer, whatever the request."""

from __future__ import annotations

import orjson

from benchmarks.faults.judging import REFUSALS
from benchmarks.serving.connection import Answer


def malformed(answer: Answer) -> str:
    """What is wrong with the form of an answer; empty if nothing is."""
    kind = answer.header(b"content-type")
    if answer.status >= 500 and answer.status not in REFUSALS:
        return "a status that no request may cause"
    if answer.status >= 400:
        if kind != b"application/problem+json":
            return "an error that is no problem"
        try:
            problem = orjson.loads(answer.body)
        except ValueError:
            return "a problem that is no JSON"
        return "" if problem["status"] == answer.status else "a problem with another status"
    if kind == b"application/json":
        try:
            content = orjson.loads(answer.body)  # refuses NaN
        except ValueError:
            return "an answer that is no JSON"
        results = content.get("results", ()) if isinstance(content, dict) else ()
        if any(result.get("status", 200) >= 500 and result["status"] not in REFUSALS for result in results):
            return "a problem of a batch has a status that no request may cause"
    return ""
