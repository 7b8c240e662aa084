"""LoRA adapters: inject them into a UNet, read and write their files, and blend them."""
