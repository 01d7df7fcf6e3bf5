"""Training with quantization in the graph: fake-quantized forms, schedules."""
