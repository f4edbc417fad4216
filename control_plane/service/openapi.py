"""What the control plane's OpenAPI description says beyond its routes."""

from __future__ import annotations

from control_plane.web.openapi import About

ABOUT = """\
What is being published, and acting on it: workflows, events, workers, the queue, holds, dead letters.

Reading takes the role `viewer`, commands take `operator`, tokens and rules take `admin`. Every command is written
down with who asked for it and why. Every refusal is a problem document (RFC 9457). What another tenant has is not
found here.
"""
TAGS = [
    {"name": "Sources", "description": "The systems that are published, and their pauses."},
    {"name": "Queue", "description": "What waits, in the order in which it will go."},
    {"name": "Batches", "description": "What was landed, and where it is on its way."},
    {"name": "Targets", "description": "What is published to, their breakers and pauses."},
    {"name": "Holds", "description": "What guards keep back until somebody decides."},
    {"name": "Dead letters", "description": "What could not be published as it is."},
    {
        "name": "Workflows",
        "description": "Work over sources that can be paused, resumed, cancelled.",
    },
    {"name": "Priority", "description": "Which work goes first."},
    {"name": "Workers", "description": "Who does the work."},
    {"name": "Events", "description": "What happened, in and out."},
    {"name": "Destinations", "description": "Where events are sent to."},
    {"name": "Forecasts", "description": "What is expected, and what is out of the ordinary."},
    {"name": "Status", "description": "What customers see."},
    {"name": "Audit", "description": "Who did what, when and why."},
    {"name": "Tokens", "description": "Who may ask."},
    {"name": "Server", "description": "How this server fares."},
]
"""Groups of operations, in the order of the page; a router names the one that it belongs to."""
LINKED: dict[str, tuple[str, ...]] = {}
"""Operations, and those that go on with what they made: links of OpenAPI."""
PARAMETERS: dict[str, dict[str, str]] = {}
"""Of operations that are linked from: what becomes which parameter of the others."""
ABOUT_API = About(
    title="Penstock control plane", text=ABOUT, tags=TAGS, linked=LINKED, parameters=PARAMETERS
)
