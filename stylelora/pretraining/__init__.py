"""Code needed only to rebuild the embedded base and its style pictures."""
