"""Output of a run: its folder, `result.json`, pictures and grids."""
