"""The graph carrier and what holds at each level; knows nothing of single ops."""
