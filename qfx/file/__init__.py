"""The ``.qfx`` file: a quantized model without pickle, checked from the first byte to the last before it is used.

``container`` knows sections and nothing of models, and needs no torch: a reader in C has that much to write again.
Today's sections are ``model`` (JSON: module tree, QDQ graph, index of tensors) and ``tensors`` (their bytes).
A compiled program fits beside them as a section of its own, marked optional, with its constants in the layout that
the runtime takes: a reader without torch maps the file, finds that section in the table and reads no other, while
readers of today skip it by its mark.
"""
