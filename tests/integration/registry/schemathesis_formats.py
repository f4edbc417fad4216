"""What schemathesis makes up for headers whose form an OpenAPI description can name and not tell."""

import schemathesis
from hypothesis import strategies as st

_tags = st.from_regex(r'\A(W/)?"[0-9a-f]{32}"\Z')
schemathesis.openapi.format("entity-tag", _tags | st.just("*"))
schemathesis.openapi.format("asterisk", st.just("*"))
schemathesis.openapi.format("feed-cursor", st.from_regex(r"\A[0-9a-f]{1,15}-[0-9a-f]{1,15}\Z"))
