"""Arithmetic of extents that tiles have to divide."""

from __future__ import annotations


def divisors(n: int, limit: int) -> list[int]:
    """List the divisors of `n` up to `limit`."""
    return [d for d in range(1, min(n, limit) + 1) if n % d == 0]


def lanes_of(channels: int, lanes: int) -> int:
    """Halve a vector until it divides `channels`."""
    while channels % lanes:
        lanes //= 2
    return lanes
