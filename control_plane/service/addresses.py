"""Where the control plane's pages are, and the cookies that they keep."""

from __future__ import annotations

DASHBOARD = "/dashboard"
"""Where the operators' pages are mounted."""
SESSION_COOKIE = "penstock_control_session"
"""The cookie of a page's session. Cookies do not tell ports apart: the registry's has another name."""
CSRF_COOKIE = "penstock_control_csrf"
