"""Ops that move elements, and shape queries."""
