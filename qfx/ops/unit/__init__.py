"""Vectors of length one: what embeddings are compared by."""
