"""The programs behind `test`, `compare` and `interference`."""
