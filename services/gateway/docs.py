"""The page at /docs: Swagger UI over /openapi.json, with every file of it served from here."""

from collections.abc import Mapping
from importlib.resources import files

from google.api.httpbody_pb2 import HttpBody

from libs.errors import NotFound

# Only files from here, none of them inline: a text in the document cannot become a script.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'"
)

_PAGE = f"""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Thmnayah API</title>
<link rel="icon" href="/docs/favicon-32x32.png">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="docs"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/init.js"></script>
</body>
</html>
"""

_INIT = """\
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  validatorUrl: null,
});
"""

_SWAGGER_UI = {
    "favicon-32x32.png": "image/png",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
}


def load() -> Mapping[str, HttpBody]:
    """Each file of the page by its name under /docs/, the page itself as ""."""
    static = files("swagger_ui") / "static"
    return {
        "": HttpBody(content_type="text/html; charset=utf-8", data=_PAGE.encode()),
        "init.js": HttpBody(content_type="text/javascript; charset=utf-8", data=_INIT.encode()),
        **{
            name: HttpBody(content_type=content_type, data=(static / name).read_bytes())
            for name, content_type in _SWAGGER_UI.items()
        },
    }


def not_found(asset: str) -> NotFound:
    return NotFound("DOCS_ASSET_NOT_FOUND", f"the docs have no file {asset!r}", f"لا يوجد في الوثائق ملف {asset!r}")
