"""Outputs of a run: folder, `result.json`, pictures and grids."""
