"""Layers, products and arithmetic of tensors."""
