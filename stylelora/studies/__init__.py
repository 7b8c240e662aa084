"""Studies: the program behind `study`."""
