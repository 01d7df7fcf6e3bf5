"""Observers and checkpoints of models that several processes calibrate or train."""

from qfx.distributed.calibrate import calibrate
from qfx.distributed.checkpoint import load_checkpoint
from qfx.distributed.synchronize import synchronize
from qfx.distributed.training import synchronized_observers

__all__ = ["calibrate", "load_checkpoint", "synchronize", "synchronized_observers"]
