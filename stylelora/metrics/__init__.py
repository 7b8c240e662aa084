"""Measuring generated pictures: encoders, CLIP score, and the statistics that every number here travels with."""
