"""Robust statistics over small samples with weights: medians and quantiles that outliers do not move."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MAD_TO_SD = 1.4826
"""A normal distribution's standard deviation in median absolute deviations (Rousseeuw and Croux, 1993)."""


def weighted_quantile(values: Floats, weights: Floats, level: float) -> float:
    """Return the smallest value at which the weights of what is not above it reach ``level`` of all.

    ``values`` is not empty; ``weights`` are not negative and not all 0.
    """
    order = np.argsort(values, kind="stable")
    return ordered_quantile(values[order], np.cumsum(weights[order]), level)


def ordered_quantile(values: Floats, reached: Floats, level: float) -> float:
    """Return the weighted quantile of values in order; ``reached`` are their weights, summed up to each."""
    at = int(reached.searchsorted(level * reached[-1] - 1e-12))
    return float(values[min(at, len(values) - 1)])


def weighted_medians(values: Floats, weights: Floats) -> Floats:
    """Return the weighted medians along the last axis; between two values that share one, their mean.

    ``weights`` are broadcast to ``values``, and are not all 0 along that axis.
    """
    order = np.argsort(values, axis=-1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=-1)
    spread = np.broadcast_to(weights, values.shape)
    reached = np.cumsum(np.take_along_axis(spread, order, axis=-1), axis=-1)
    half = reached[..., -1:] / 2
    low = np.argmax(reached >= half * (1 - 1e-12), axis=-1)
    high = np.argmax(reached > half * (1 + 1e-12), axis=-1)
    picked = np.stack([low, high], axis=-1)
    medians: Floats = np.take_along_axis(ordered, picked, axis=-1).mean(axis=-1)
    return medians


def recency_weights(count: int, half_life: float) -> Floats:
    """Return weights for ``count`` values, oldest first: each counts half of one ``half_life`` places newer."""
    ages = np.arange(count - 1, -1, -1, dtype=np.float64)
    return np.power(0.5, ages / half_life)


def median_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Return the median and the standard deviation that the median absolute deviation stands for."""
    array = np.asarray(values, dtype=np.float64)
    middle = float(np.median(array))
    return middle, MAD_TO_SD * float(np.median(np.abs(array - middle)))
