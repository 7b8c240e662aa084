"""The program `migrate`: reads another trainer's config and writes ours, with a word on each of its settings.

A dialect is a table: their setting -> what becomes of it. `rows.py` says what a row can be.
"""
