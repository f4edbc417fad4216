"""Penstock's domain: pure, deterministic, and free of every outside system.

Read in this order: ``identity`` (what a thing is called and hashed as), ``batch`` (what landed),
``snapshot`` (what a target is known to hold), ``diff``, ``plan``, ``publish`` (the life of a batch),
``ports`` (what the outside must offer), ``execute`` and ``use_cases``.
"""
