"""The sections of a ``.qfx`` file of a model.

Either the first two, or the last two, or all four.
"""

CALL = "call"
"""How a model that is one program is called, as JSON."""
PROGRAM = "program"
"""That program, as :meth:`qfx.runtime.Program.to_bytes` makes it."""
GRAPH = "model"
"""The QDQ graph, as JSON."""
TENSORS = "tensors"
"""Its tensors, without those that are constants of the program."""
KNOWN = (CALL, PROGRAM, GRAPH, TENSORS)
