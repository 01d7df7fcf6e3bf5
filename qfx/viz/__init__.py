"""Read-only views of graphs; nothing imports this package but the public names."""
