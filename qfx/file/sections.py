"""The sections of a ``.qfx`` file of a model.

What runs it is the first or the second, and the third; or its graph, which is compiled; or both are there. The last is
there with the second, and with the graph.
"""

CALL = "call"
"""How a model that is one program is called, as JSON."""
PARTS = "parts"
"""How a model of programs and nodes that torch runs is called, as JSON, and those nodes."""
PROGRAM = "program"
"""The program, as :meth:`qfx.runtime.Program.to_bytes` makes it, or all programs, one after the other."""
SERVING = "serving"
"""How a model that is one program is called without torch, as :mod:`qfx.runtime` reads it. It may be left out."""
GRAPH = "model"
"""The QDQ graph, as JSON."""
TENSORS = "tensors"
"""The tensors of what torch runs, then the others of the graph; without those that are constants of programs."""
KNOWN = (CALL, PARTS, PROGRAM, SERVING, GRAPH, TENSORS)

METADATA = "metadata"
"""Key of a model's ``info``: what the user has a file say beside the model, of values that JSON has."""
