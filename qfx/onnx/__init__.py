"""Converted models as ONNX files with quantize and dequantize nodes: :func:`qfx.to_onnx`.

``forms`` says what each row of the op table is in ONNX. Needs the package ``onnx``, which is imported when a file is
written.
"""
