"""The OpenAPI document."""

from __future__ import annotations

import json
import re

from starlette.testclient import TestClient


def test_the_document_lists_the_headers_of_every_answer(client: TestClient) -> None:
    for operations in client.get("/openapi.json").json()["paths"].values():
        for operation in operations.values():
            for answer in operation["responses"].values():
                assert {"X-Request-Id", "X-Latentserve-Version"} <= answer["headers"].keys()


def test_the_document_has_every_schema_that_it_references(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    text = json.dumps(document)
    schemas = document["components"]["schemas"]
    for name in set(re.findall(r"#/components/schemas/(\w+)", text)):
        assert name in schemas
    assert "HTTPValidationError" not in text
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["responses"]["200"]["content"], (path, method)
            if method == "post":
                assert operation["requestBody"]["required"]
                assert {"400", "413", "415", "422"} <= operation["responses"].keys()
