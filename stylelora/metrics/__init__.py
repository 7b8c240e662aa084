"""Metrics of generated pictures: encoders (judges), measures, and the statistics behind their intervals and tests."""
