"""Models that other tools quantized: what their graphs say in their own ops, read into the QDQ level as it is."""
