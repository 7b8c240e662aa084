"""Evaluation: the programs behind `test`, `compare` and `interference`."""
