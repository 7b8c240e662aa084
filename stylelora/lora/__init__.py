"""LoRA adapters: inject them into a UNet, write and read their files, blend several."""
