"""Rotation of channels: what spreads outliers before they are rounded."""
