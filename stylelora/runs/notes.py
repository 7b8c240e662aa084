"""Notes of a training in the header of its LoRA file, under the names that other programs show.

`ss_*` are those of kohya's sd-scripts, `modelspec.*` those of Stability AI's Model Metadata Standard.
"""

from __future__ import annotations

import base64
import io
import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image

from stylelora.data.dataset import StyleDataset

THUMBNAIL = 256  # px; the header stays small


def training_notes(
    *,
    name: str,
    base: str,
    width: int,
    prediction: str,
    dataset: StyleDataset,
    settings: Mapping[str, Any],
    learning_rate: float | None,
    batch_size: int,
    devices: int,
    accumulated: int,
    epoch: int,
    epochs: int,
    steps: int,
    seed: int,
) -> dict[str, str]:
    """Return what other programs show about a LoRA.

    Args:
        name: name of the file, without suffix.
        base: base model that it was trained on.
        width: of its text embeddings, which tells SD 1.x (768) from 2.x (1024).
        prediction: what its UNet predicts: epsilon or v_prediction.
        dataset: its pictures and captions.
        settings: hyperparameters of the training, as `StyleLoRA` names them.
        learning_rate: of the optimiser, before any schedule; None if it has none.
        batch_size: pictures per step and device.
        devices: number of devices.
        accumulated: batches whose gradients are added up before a step.
        epoch: index from 0 of the epoch.
        epochs: number of epochs that the training was to have.
        steps: finished steps.
        seed: of the training.
    """
    name_of_base, predicts = Path(shared_name(base)).name, "v" if prediction == "v_prediction" else "epsilon"
    text = settings["text_encoder"]
    kinds = {
        (768, "epsilon"): ("sd_v1", "stable-diffusion-v1"),
        (768, "v"): ("sd_v1", "stable-diffusion-v1"),
        (1024, "epsilon"): ("sd_v2", "stable-diffusion-v2-512"),
        (1024, "v"): ("sd_v2_v", "stable-diffusion-v2-768-v"),
    }
    version, architecture = kinds.get((width, predicts), (name_of_base, name_of_base))
    resolution, trigger = dataset.framing.resolution, dataset.wording.trigger
    sizes = Counter(dataset.sizes["train"][index] for index in dataset.samples)
    buckets = {index: {"resolution": size, "count": sizes[size]} for index, size in enumerate(sorted(sizes))}
    folders, tags = _folders(dataset)
    notes = {
        "ss_output_name": name,
        "ss_base_model_version": version,
        "ss_sd_model_name": name_of_base,
        "ss_v2": version.startswith("sd_v2"),
        "ss_resolution": f"({resolution}, {resolution})",
        "ss_num_train_images": len(dataset.samples),
        "ss_num_epochs": epochs,
        "ss_epoch": epoch + 1,
        "ss_steps": steps,
        "ss_learning_rate": learning_rate,
        "ss_unet_lr": learning_rate,
        "ss_text_encoder_lr": (text["learning_rate"] or learning_rate) if text["rank"] else None,
        "ss_batch_size_per_device": batch_size,
        "ss_total_batch_size": batch_size * devices * accumulated,
        "ss_gradient_accumulation_steps": accumulated,
        "ss_optimizer": settings["optimizer"]["class_path"],
        "ss_lr_scheduler": (settings["lr_scheduler"] or {}).get("class_path", "constant"),
        "ss_caption_dropout_rate": settings["caption_dropout"],
        "ss_caption_tag_dropout_rate": dataset.wording.tag_dropout,
        "ss_shuffle_caption": dataset.wording.keep_tags is not None,
        "ss_clip_skip": settings.get("clip_skip"),
        **objective_notes(settings["objective"]),
        "ss_masked_loss": dataset.masks is not None,
        "ss_seed": seed,
        "ss_enable_bucket": len(sizes) > 1,
        "ss_bucket_info": json.dumps({"buckets": buckets}),
        "ss_dataset_dirs": json.dumps(folders),
        "ss_tag_frequency": json.dumps(tags),
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.implementation": "diffusers",
        "modelspec.architecture": f"{architecture}/lora",
        "modelspec.title": name,
        "modelspec.description": f"Style LoRA of {len(dataset.train)} pictures; write {trigger!r} into the prompt.",
        "modelspec.trigger_phrase": trigger,
        "modelspec.resolution": f"{resolution}x{resolution}",
        "modelspec.prediction_type": predicts,
        "modelspec.date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return {key: str(value) for key, value in notes.items()}


def objective_notes(objective: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of `Objective` under kohya's names; None for those that are off."""
    named = {"ss_min_snr_gamma": "min_snr_gamma", "ss_noise_offset": "noise_offset"}
    named |= {"ss_multires_noise_iterations": "pyramid_iterations", "ss_ip_noise_gamma": "input_perturbation"}
    notes = {note: objective[option] or None for note, option in named.items()}
    pyramid, huber = objective["pyramid_iterations"], objective["loss"] == "huber"
    return notes | {
        "ss_multires_noise_discount": objective["pyramid_discount"] if pyramid else None,
        "ss_debiased_estimation": objective["debiased_estimation"],
        "ss_loss_type": "huber" if huber else "l2",
        "ss_huber_schedule": "constant" if huber else None,
        "ss_huber_c": objective["huber_c"] if huber else None,
    }


def _folders(dataset: StyleDataset) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, int]]]:
    """Return the repeats and number of pictures of each folder, and how often each tag occurs in its captions.

    Pictures of one folder that are shown differently often are listed as folders of kohya's `N_name`.
    """
    members = defaultdict(list)
    for picture in dataset.train:
        members[picture.folder].append(picture)
    folders, tags = {}, {}
    for folder, pictures in members.items():
        name, counts = folder.resolve().name, Counter(dataset.repeats * picture.repeats for picture in pictures)
        for repeats, count in sorted(counts.items()):
            shown_as = name if len(counts) == 1 else f"{repeats}_{name}"
            folders[shown_as] = {"n_repeats": repeats, "img_count": count}
        captions = [dataset.wording.caption(text) for picture in pictures for text in picture.texts]
        found = Counter(tag.strip() for caption in captions for tag in caption.split(","))
        tags[name] = dict(found.most_common())
    return folders, tags


def shared_name(base: str) -> str:
    """Return how a file that is shared names its base: a hub id in full, but of a path only the last part."""
    path = Path(base).expanduser()
    return path.resolve().name if path.exists() else base


def thumbnail(picture: Image.Image) -> str:
    """Return a small JPEG of a picture as a data URI, for `modelspec.thumbnail`."""
    small = picture.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
