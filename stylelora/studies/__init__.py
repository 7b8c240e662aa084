"""The program behind `study`."""
