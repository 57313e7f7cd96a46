"""Types that several parts share."""

from __future__ import annotations

from typing import Any, TypeAlias

DType: TypeAlias = Any
"""Anything `jnp.dtype` takes: ``jnp.bfloat16``, ``"float32"``."""

PyTree: TypeAlias = Any
"""A tree of arrays."""
