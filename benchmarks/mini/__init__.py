"""Held-out measurements of the embedded base: `python -m benchmarks.mini` prints the model card's table."""
