"""All pages of the operators' dashboard."""

from __future__ import annotations

from fastapi import APIRouter

from control_plane.service.pages import (
    batches,
    holds,
    home,
    letters,
    live,
    queue,
    sources,
    targets,
    trends,
    workflows,
)

pages: tuple[APIRouter, ...] = (
    home.router,
    live.router,
    queue.router,
    batches.router,
    holds.router,
    letters.router,
    sources.router,
    targets.router,
    workflows.router,
    trends.router,
)
