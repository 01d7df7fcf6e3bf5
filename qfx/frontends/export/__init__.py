"""The export frontend: a module or an exported program, through ``torch.export``, to the Captured level."""

from qfx.frontends.export.capture import capture

__all__ = ["capture"]
