"""Every error that Penstock raises, as one tree.

::

    PenstockError
    ├── InvalidIdentifier        an id that is not a slug, a key with forbidden characters
    ├── NotCanonical             a value that has no canonical encoding
    ├── BadBatch                 a batch that breaks its contract
    │   ├── BadManifest          ... its manifest
    │   ├── BadFile              ... one of its files
    │   └── BadRow               ... one row in one of its files
    ├── BatchAlreadyLanded       another batch stands under this source and timestamp
    ├── UndeclaredSource         a batch for a source that nobody declared
    ├── NotFound                 an id that names nothing
    ├── IllegalMove              a publish state cannot move there
    ├── TargetUnreachable        a target cannot be asked what it holds
    ├── LaneBusy                 a lane has a batch in hand, and what is asked has to wait for it
    ├── LanePaused               somebody has paused the source or the target of what is asked for
    ├── NothingToDo              what is asked for would change nothing
    ├── ChangedMeanwhile         what an act is about is not as its actor saw it
    ├── KeyReused                an idempotency key that was used for something else
    ├── Unsigned                 an act by no one, or without the reason that it needs
    ├── BadPatch                 a patch of a dead letter that is refused
    ├── TooMany                  more at once than is allowed
    ├── BadEvent                 an event that is none of the catalogue, or whose data is not as it says
    ├── LeaseLost                another worker holds this lane now
    ├── IndexCorrupt             an index sidecar that breaks its own rules
    ├── PlanChanged              a stored plan is not the one that was approved
    └── ObjectMissing            an object that a record points at is not in the store

An error is raised when every caller has to stop. Outcomes that a caller branches on (a rejected
operation, an unavailable target, a lost race for a key) are return values instead.

Each message names what is wrong, where, and what to do about it. ``code`` is stable and is what
publish states and dead letters record.
"""

from __future__ import annotations


class PenstockError(Exception):
    """Something is wrong that the caller cannot continue past."""

    code = "penstock_error"


class InvalidIdentifier(PenstockError, ValueError):
    """An id, a key or a path segment has a form that Penstock does not accept.

    A ``ValueError`` too, so that pydantic names the field that holds it.
    """

    code = "invalid_identifier"


class NotCanonical(PenstockError):
    """A value has no canonical encoding, so it can be neither stored nor hashed."""

    code = "not_canonical"


class BadBatch(PenstockError):
    """A batch breaks its contract and is not published; the message names file, row or field."""

    code = "bad_batch"


class BadManifest(BadBatch):
    """A manifest is not valid; the message names the field."""

    code = "bad_manifest"


class BadFile(BadBatch):
    """A file of a batch is missing, truncated or not what the manifest says."""

    code = "bad_file"


class BadRow(BadBatch):
    """A row of a batch has no key, a duplicate key, or attributes out of bounds."""

    code = "bad_row"


class BatchAlreadyLanded(PenstockError):
    """Another batch is committed under the same source and timestamp; batches are immutable."""

    code = "batch_already_landed"


class UndeclaredSource(PenstockError):
    """A batch landed for a source that is not declared in ``platform_assets/sources.py``."""

    code = "undeclared_source"


class NotFound(PenstockError):
    """An id names nothing that Penstock knows."""

    code = "not_found"


class IllegalMove(PenstockError):
    """A publish state, or a workflow, was asked to move to a status that its present one does not lead to."""

    code = "illegal_move"


class TargetUnreachable(PenstockError):
    """A target cannot be asked what it holds; nothing was changed, and it may be asked again later."""

    code = "target_unreachable"


class LaneBusy(PenstockError):
    """A lane has a batch in hand, and what is asked for has to wait until that has ended."""

    code = "lane_busy"


class LanePaused(PenstockError):
    """A source or a target is paused, and what is asked for has to wait until somebody resumes it."""

    code = "lane_paused"


class NothingToDo(PenstockError):
    """What is asked for would change nothing."""

    code = "nothing_to_do"


class ChangedMeanwhile(PenstockError):
    """What an operator acts on was changed by another since it was looked at; nothing was done."""

    code = "changed_meanwhile"


class KeyReused(PenstockError):
    """An idempotency key was used before, for something else; nothing was done."""

    code = "key_reused"


class Unsigned(PenstockError):
    """An act has no actor, or lacks the reason that it needs; nothing was done."""

    code = "unsigned"


class BadPatch(PenstockError):
    """A patch of a dead letter cannot be applied, or what comes of it is not accepted; nothing was changed."""

    code = "bad_patch"


class TooMany(PenstockError):
    """More was asked for at once than is allowed; nothing was changed."""

    code = "too_many"


class BadEvent(PenstockError):
    """An event is of no type that is heard, or its envelope or data is not as the catalogue says."""

    code = "bad_event"


class LeaseLost(PenstockError):
    """Another worker holds the lane now; this one must stop without writing anything more."""

    code = "lease_lost"


class IndexCorrupt(PenstockError):
    """An index sidecar is unsorted, truncated, or its digests do not match its rows."""

    code = "index_corrupt"


class PlanChanged(PenstockError):
    """A stored plan does not have the digest that was recorded for it."""

    code = "plan_changed"


class ObjectMissing(PenstockError):
    """An object that a manifest, a plan or a record points at is not in the object store."""

    code = "object_missing"


class SecretUnreadable(PenstockError):
    """A secret is kept sealed, and no key that is there opens it."""

    code = "secret_unreadable"
