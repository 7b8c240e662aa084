"""The mixing desk: a page to blend adapters by hand, and to watch a training."""
