"""One op at a time on QTensors, by the same kernels that run whole programs."""

from qfx.eager.run import run_op

__all__ = ["run_op"]
