"""What a training leaves in its folder, made up, with the loggers' own writers."""

import json

import numpy as np
import yaml
from PIL import Image
from safetensors.numpy import save_file

PROMPTS = ["a cat", "a boat", "a tree"]
SKILLS = [0.1, 0.3, 0.2]
STEPS = 5  # of an epoch


def point(epoch):
    return f"epoch={epoch:03d}-step={STEPS * (epoch + 1):06d}"


def clip_rows(epoch):
    """Scores of an epoch; the base's are 0.8, 0.6 and 0.4."""
    own = [0.7 - 0.1 * epoch, 0.5, 0.3]
    at = {"epoch": epoch, "step": STEPS * (epoch + 1), "encoder": "mini", "seed": 0}
    rows = zip(range(3), PROMPTS, own, [0.8, 0.6, 0.4], strict=True)
    return [
        at | {"index": index, "prompt": prompt, "score": score, "base_score": base}
        for index, prompt, score, base in rows
    ]


def log_epoch(writer, epoch):
    """Log an epoch as Lightning does: at the step of its last batch."""
    step = STEPS * (epoch + 1) - 1
    skill = SKILLS[epoch % 3]
    values = {"val/skill": skill, "val/skill_ci_low": skill - 0.05, "val/skill_ci_high": skill + 0.04}
    values |= {"val/loss": 0.2 - epoch / 100, "val/base_loss": 0.25, "val/clip_score_real": 0.5, "epoch": epoch}
    writer.add_scalar("train/loss", 0.3, step - 3)
    writer.add_scalar("train/loss", 0.1, step - 1)
    for tag, value in values.items():
        writer.add_scalar(tag, value, step)
    pixels = np.random.default_rng(epoch).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    writer.add_image("samples", pixels, step + 1, dataformats="HWC")
    writer.flush()


def save_adapter(folder, which, epoch, held_out=4):
    notes = {
        "held_out_count": str(held_out),
        "epoch": str(epoch),
        "ss_steps": str(STEPS * (epoch + 1)),
        "trigger": "inkstyle",
        "base": "mini",
    }
    save_file({"weight": np.full(4, epoch, np.float32)}, folder / f"{folder.name}{which}.safetensors", notes)


def write_epoch(folder, writer, epoch, sheet=True, kept=False):
    """Add what an epoch leaves."""
    with (folder / "clip_score.jsonl").open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in clip_rows(epoch))
    log_epoch(writer, epoch)
    (folder / "samples").mkdir(exist_ok=True)
    if sheet:
        Image.new("RGB", (60, 90), (40 * epoch, 90, 90)).save(folder / "samples" / f"{point(epoch)}.png")
    if kept:
        save_adapter(folder, "", epoch)


def write_training(folder, epochs=3, status="success", kept=1, planned=None, **result):
    """Write a training, finished or so far; return its folder and TensorBoard's writer."""
    from torch.utils.tensorboard import SummaryWriter

    folder.mkdir(parents=True, exist_ok=True)
    model = {"class_path": "lightning_modules.StyleLoRA", "init_args": {"keep": "balanced", "keep_share": 0.9}}
    trainer = {"max_epochs": planned or epochs, "default_root_dir": f"runs/{folder.name}"}
    (folder / "config.yaml").write_text(yaml.dump({"model": model, "trainer": trainer}))
    (folder / "result.json").write_text(json.dumps({"status": status, "error": None, "warning": ""} | result))
    (folder / "clip_score.jsonl").touch()
    writer = SummaryWriter(folder)
    for epoch in range(epochs):
        write_epoch(folder, writer, epoch, kept=epoch == kept)
    if status != "running":
        save_adapter(folder, "-last", epochs - 1)
    return folder, writer
