"""``python -m qfx.migrate``: rewrite code that uses torch's quantization to use qfx, and name what needs a hand.

``names.tsv`` is the one list of old and new names; the tool, docs/migrating.md and the tests of the inventory read it.
"""
