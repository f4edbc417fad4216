"""The API's own page and its description: no script, nothing from elsewhere, nothing to build."""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse

router = APIRouter()
_STYLE = """\
:root { color-scheme: light dark; --line: light-dark(#ccd, #445); --soft: light-dark(#f4f5f8, #1c1f26); }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 62rem; padding: 1rem; }
h1, h2 { line-height: 1.2; }
details { border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0; padding: .25rem .75rem; }
summary { cursor: pointer; padding: .25rem 0; }
summary b { display: inline-block; min-width: 4.5rem; }
code, pre { font: 14px/1.45 ui-monospace, monospace; background: var(--soft); border-radius: 4px; }
code { padding: .1rem .25rem; overflow-wrap: anywhere; } pre { overflow-x: auto; padding: .5rem; }
table { border-collapse: collapse; width: 100%; }
td, th { border-bottom: 1px solid var(--line); padding: .25rem .5rem; text-align: left; vertical-align: top; }
"""


@router.get("/openapi.json")
def openapi_document(request: Request) -> Response:
    """Return the description of the API."""
    return JSONResponse(request.app.openapi())


@router.get("/docs.css")
def style() -> Response:
    """Return the page's style sheet."""
    return PlainTextResponse(_STYLE, media_type="text/css")


@router.get("/health")
def health() -> Response:
    """Say that the server answers."""
    return JSONResponse({"status": "ok"})


@router.get("/docs")
def docs(request: Request) -> Response:
    """Return a page with every operation, its parameters, bodies and answers."""
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["pretty"] = lambda value: json.dumps(value, indent=1, ensure_ascii=False)
    page = environment.from_string(_PAGE)
    return HTMLResponse(page.render(api=request.app.openapi(), groups=_groups(request)))


def _groups(request: Request) -> list[tuple[dict[str, str], list[dict[str, Any]]]]:
    """Return operations by tag, in the order of the tags."""
    api = request.app.openapi()
    operations = [
        {"method": method.upper(), "path": path, **operation}
        for path, methods in api["paths"].items()
        for method, operation in methods.items()
    ]
    return [
        (tag, [each for each in operations if tag["name"] in each.get("tags", [])])
        for tag in api["tags"]
    ]


_PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ api.info.title }}: the API</title>
<link rel="stylesheet" href="docs.css">
<main>
<h1>{{ api.info.title }}</h1>
{% for part in api.info.description.split("\\n\\n") %}<p>{{ part }}</p>
{% endfor %}
<p>The description as a file: <a href="openapi.json">openapi.json</a> (OpenAPI {{ api.openapi }}).</p>
{% for tag, operations in groups if operations %}
<section aria-labelledby="t{{ loop.index }}">
<h2 id="t{{ loop.index }}">{{ tag.name }}</h2>
<p>{{ tag.description }}</p>
{% for operation in operations %}
<details id="{{ operation.operationId }}">
<summary><b>{{ operation.method }}</b> <code>{{ operation.path }}</code></summary>
<p>{{ operation.description }}</p>
{% if operation.parameters %}
<table>
<tr><th scope="col">parameter</th><th scope="col">in</th><th scope="col">what it is</th></tr>
{% for parameter in operation.parameters %}
<tr><td><code>{{ parameter.name }}</code>{% if parameter.required %} (needed){% endif %}</td>
<td>{{ parameter.in }}</td><td>{{ parameter.description or parameter.schema.title }}</td></tr>
{% endfor %}
</table>
{% endif %}
{% for media, content in (operation.requestBody or {}).get("content", {}).items() %}
<p>Body, <code>{{ media }}</code>:</p>
<pre tabindex="0">{{ content.schema | pretty }}</pre>
{% endfor %}
<table>
<tr><th scope="col">answer</th><th scope="col">when</th></tr>
{% for status, response in operation.responses.items() %}
<tr><td>{{ status }}</td><td>{{ response.description }}</td></tr>
{% endfor %}
</table>
</details>
{% endfor %}
</section>
{% endfor %}
<section aria-labelledby="models"><h2 id="models">Documents</h2>
{% for name, schema in api.components.schemas.items() %}
<details id="schema-{{ name }}"><summary><code>{{ name }}</code></summary>
<pre tabindex="0">{{ schema | pretty }}</pre></details>
{% endfor %}
</section>
</main>
</html>
"""
