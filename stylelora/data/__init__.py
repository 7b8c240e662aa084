"""From pictures on disk to cached latents: scan, caption, resize, encode."""
