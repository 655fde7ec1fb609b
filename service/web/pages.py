"""The pages that display the OpenAPI document: /docs and /redoc.

Their scripts come from a content delivery network. The pages name the exact versions and their digests, so a browser
runs no other script. Their policy allows nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import NamedTuple

from starlette.responses import Response

from .heads import POLICY_HEADER

_NETWORK = "https://cdn.jsdelivr.net/npm/"


class File(NamedTuple):
    """A file of the network, and the digest that its bytes must have."""

    path: str
    digest: str

    @property
    def address(self) -> str:
        """Its URL."""
        return _NETWORK + self.path


# To change a version: `npm pack NAME@VERSION`, and of the file `openssl dgst -sha384 -binary FILE | base64`.
SWAGGER = File(
    "swagger-ui-dist@5.35.0/swagger-ui-bundle.js",
    "sha384-gjRm0bEPMeTmMh5jT2cHccIwCUZSTd8YC+j0d0sXw0MdGEfScduGpSyF3ZSSLkX9",
)
SWAGGER_STYLE = File(
    "swagger-ui-dist@5.35.0/swagger-ui.css",
    "sha384-WlYgdmXYOOBWL5apwjDEZwN+U3HmXSSu5R6V5aGxEcf7z+KuRNwBhoxKVN1i3D5I",
)
REDOC = File(
    "redoc@2.5.4/bundles/redoc.standalone.js",
    "sha384-w447zOpYfw/1Tv/5AK9NfHTlQIqE3RVR6KY62jCyy9zNDgO64cMwGGP1Fj0zJVf5",
)


def swagger(document: str) -> Response:
    """The page that displays the document at the path `document`, and sends requests."""
    options = {"url": document, "dom_id": "#page", "deepLinking": True, "validatorUrl": None}
    style = f'<link rel="stylesheet" href="{SWAGGER_STYLE.address}" integrity="{SWAGGER_STYLE.digest}" crossorigin>'
    return _page(SWAGGER, f"SwaggerUIBundle({_json(options)})", style)


def redoc(document: str) -> Response:
    """The page that displays the document at the path `document`, to be read."""
    return _page(REDOC, f"Redoc.init({_json(document)}, {{}}, document.getElementById('page'))")


def _page(library: File, script: str, style: str = "") -> Response:
    html = f"""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Latentserve</title>
<link rel="icon" href="data:,">
{style}
</head>
<body>
<noscript>This page needs JavaScript. The document itself is openapi.json.</noscript>
<div id="page"></div>
<script src="{library.address}" integrity="{library.digest}" crossorigin></script>
<script>{script}</script>
</body>
</html>
"""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src {library.address} 'sha256-{digest}'",
            # Both libraries write styles into the page.
            f"style-src {_NETWORK} 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "worker-src blob:",  # Redoc's search
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )
    return Response(html, media_type="text/html", headers={POLICY_HEADER: policy})


def _json(value: object) -> str:
    """JSON that can stand in a script of a page."""
    return json.dumps(value).replace("<", "\\u003c")
