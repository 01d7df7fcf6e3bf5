"""A quantized model as a file: what :func:`qfx.save` writes and :func:`qfx.load` reads.

A ``.qfx`` file is a container of sections (:mod:`qfx.file.container`); :mod:`qfx.file.sections` names them. A model
that is one program is that program and how it is called (:mod:`qfx.file.program`); beside it is the QDQ graph as JSON,
with its tensors in one run of bytes (:mod:`qfx.file.qdq`). Nothing in it names code, and every byte is checked before
it is used.
"""
