"""What a run leaves: its folder, `result.json`, pictures and grids."""
