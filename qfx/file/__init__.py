"""A quantized model as a file: what :func:`qfx.save` writes and :func:`qfx.load` reads.

A ``.qfx`` file is a container of sections (:mod:`qfx.file.container`); :mod:`qfx.file.sections` names them. A model is
its programs, how they are called (:mod:`qfx.file.program`), and what torch computes between them
(:mod:`qfx.file.parts`); beside it is the QDQ graph as JSON, with its tensors in one run of bytes (:mod:`qfx.file.qdq`).
Nothing in it names code, and every byte is checked before it is used.
"""
