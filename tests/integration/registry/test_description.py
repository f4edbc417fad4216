"""The API keeps to its own OpenAPI description, whatever it is sent: tried by schemathesis with all of its checks."""

from __future__ import annotations

from pathlib import Path

from tests.fixtures.registry_server import Registry
from tests.integration.registry.schemathesis_runs import tried

FEW = ("--phases", "examples,fuzzing,stateful", "--seed", "1", "--max-examples", "2")


def test_the_api_is_as_it_is_described(registry: Registry, tmp_path: Path) -> None:
    """No server error, no answer that is not described, nothing wrong taken, nothing right refused, auth holds."""
    ran = tried(registry, tmp_path, *FEW)
    assert ran.returncode == 0, ran.stdout[-20_000:] + ran.stderr[-2_000:]


def test_the_description_says_what_there_is(registry: Registry) -> None:
    """OpenAPI 3.1 with a security scheme; each operation has its role's refusals, and bodies have examples."""
    api = registry.request("GET", "/openapi.json", role=None).json()
    assert api["openapi"].startswith("3.1")
    assert api["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    operations = [each for path in api["paths"].values() for each in path.values()]
    for operation in operations:
        assert operation["security"] == [{"token": []}], operation["operationId"]
        assert {"400", "401", "403", "429", "503"} <= set(operation["responses"])
        assert operation["description"], operation["operationId"]
    shown = str(api["components"]["schemas"]["NewEntity"])
    assert "warehouse/sales/orders" in shown
    assert len({each["operationId"] for each in operations}) == len(operations)


def test_the_page_of_the_api_needs_nothing_from_elsewhere(registry: Registry) -> None:
    """Every operation is on the page, which has no script and asks this server alone."""
    page = registry.request("GET", "/docs", role=None)
    api = registry.request("GET", "/openapi.json", role=None).json()
    for path in api["paths"]:
        assert path in page.text
    assert "<script" not in page.text
    assert "http://" not in page.text
    assert "https://" not in page.text
    assert (
        registry.request("GET", "/docs.css", role=None)
        .headers["Content-Type"]
        .startswith("text/css")
    )
