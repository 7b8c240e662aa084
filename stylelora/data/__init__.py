"""From image files to cached latents: scan, caption, resize, encode."""
