"""Frontends: a user's model to the Captured level, and from there to the Normal level."""

from qfx.frontends.normalize import normalize
from qfx.frontends.shapes import propagate_shapes, record_shapes
from qfx.frontends.symbolic import capture

__all__ = ["capture", "normalize", "propagate_shapes", "record_shapes"]
