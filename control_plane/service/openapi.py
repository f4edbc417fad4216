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
_OF_BATCH = (
    *("read_batch", "prioritise", "requeue_batch", "republish_batch", "cancel_batch"),
    *("rollback_batch", "read_hold"),
)
_OF_WORKFLOW = (
    *("show_workflow", "list_workflow_tasks", "pause_one_workflow", "resume_one_workflow"),
    *("cancel_one_workflow", "retry_one_workflow"),
)
_OF_DESTINATION = (
    *("get_destination", "change_destination", "remove_destination", "enable_destination"),
    *("disable_destination", "replay_destination", "rotate_secret", "list_deliveries"),
)
LINKED: dict[str, tuple[str, ...]] = {
    "make_workflow": _OF_WORKFLOW,
    "list_workflow_tasks": ("rerun_one_workflow",),
    "register": ("heartbeat", "claim", "drain", "leave", "get_worker"),
    "claim": ("renew", "complete", "fail"),
    "add_destination": _OF_DESTINATION,
    "make_incident": ("get_incident", "tell_of_incident"),
    "make_token": ("revoke",),
    "list_sources": ("read_source", "pause_source", "resume_source"),
    "list_targets": ("pause_target", "resume_target", "reset_target_breaker"),
    "list_batches": _OF_BATCH,
    "list_holds": ("read_hold", "approve_hold", "reject_hold"),
    "list_dead_letters": ("read_dead_letter", "fix_dead_letter"),
}
"""Operations, and those that go on with what they made: links of OpenAPI."""
PARAMETERS: dict[str, dict[str, str]] = {
    "make_workflow": {"workflow_id": "$response.body#/workflow_id"},
    "list_workflow_tasks": {"workflow_id": "$request.path.workflow_id"},
    "register": {"worker_id": "$response.body#/worker_id"},
    "claim": {"task_id": "$response.body#/items/0/task_id"},
    "add_destination": {"destination_id": "$response.body#/id"},
    "make_incident": {"incident_id": "$response.body#/incident_id"},
    "make_token": {"token_id": "$response.body#/token_id"},
    "list_sources": {"source": "$response.body#/items/0/source_id"},
    "list_targets": {"target": "$response.body#/items/0/target_id"},
    "list_batches": {"batch": "$response.body#/items/0/batch_id"},
    "list_holds": {"batch": "$response.body#/items/0/state/batch_id"},
    "list_dead_letters": {"letter": "$response.body#/items/0/dead_letter_id"},
}
"""Of operations that are linked from: what becomes which parameter of the others."""
ABOUT_API = About(
    title="Penstock control plane", text=ABOUT, tags=TAGS, linked=LINKED, parameters=PARAMETERS
)
