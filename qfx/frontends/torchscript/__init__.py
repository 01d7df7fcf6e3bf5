"""The TorchScript frontend: a scripted, traced, frozen or loaded ``torch.jit.ScriptModule`` to the Captured level."""

from qfx.frontends.torchscript.capture import capture
from qfx.frontends.torchscript.modules import module_classes

__all__ = ["capture", "module_classes"]
