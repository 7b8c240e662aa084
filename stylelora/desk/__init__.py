"""The mixing desk: a page to blend by hand, and to watch trainings."""
