"""What only rebuilding the embedded base and its style pictures needs."""
