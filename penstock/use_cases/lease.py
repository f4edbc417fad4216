"""Keeping a lease while long steps run, and noticing when it is gone."""

from __future__ import annotations

import threading
from types import TracebackType

from penstock.errors import LeaseLost
from penstock.ports.control import Claim
from penstock.use_cases.platform import Platform


class HeldLease:
    """Renews a claim's lease from a thread of its own for as long as the block runs.

    The thread waits on real time: a lease is about whether this process still makes progress. Writers are
    protected by the fencing token whether or not the thread keeps up.
    """

    def __init__(self, platform: Platform, claim: Claim) -> None:
        self._platform = platform
        self._claim = claim
        self._lost: LeaseLost | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._beat, name=f"lease-{claim.state.source_id}", daemon=True
        )

    def __enter__(self) -> HeldLease:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def moved(self, claim: Claim) -> None:
        """Take over the claim that a move gave."""
        self._claim = claim

    def claim(self) -> Claim:
        """Return the present claim, or raise ``LeaseLost``."""
        if self._lost is not None:
            raise self._lost
        return self._claim

    def _beat(self) -> None:
        while not self._stop.wait(self._platform.lease_s / 3):
            try:
                self._platform.control.renew(
                    self._claim, now=self._platform.clock.now(), lease_s=self._platform.lease_s
                )
            except LeaseLost as lost:
                self._lost = lost
                return
            except Exception:  # noqa: BLE001, S112  the next beat tries again; the lease outlives two misses
                continue
