"""Pictures made by the base alone, for prior preservation (Ruiz et al. 2022)."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from stylelora.base.conditioning import Conditioning
from stylelora.base.load import latent_shape, load_unet, load_vae, part_hash
from stylelora.data.cache import Cache
from stylelora.data.images import save_png, to_pil
from stylelora.data.prior import PriorPictures
from stylelora.diffusion.sample import decode, denoise, initial_noise
from stylelora.diffusion.schedulers import own_scheduler
from stylelora.files import write
from stylelora.records import InputError
from stylelora.seeds import seed_of
from stylelora.texts import quoted

log = logging.getLogger(__name__)
#: Beside the pictures: what made them.
RECORD = "made_by.json"


def make_prior(
    prior: PriorPictures,
    contents: Sequence[str],
    cache: Cache,
    resolution: int,
    num_inference_steps: int,
    guidance_scale: float,
    batch_size: int,
) -> None:
    """Let the base make the pictures, `0000.png` with its caption `0000.txt` and so on, in a folder without others.

    Picture i has a seed and a prompt of its own, whatever the batch size. An interrupted run goes on where it was.
    Later ones make what a larger count adds, and not what was thrown away. Where another base or other prompts made
    them, that is said, and nothing is made.

    Args:
        prior: where, how many and of what.
        contents: prompts, if it has none of its own; used in turn, shuffled.
        cache: encodes the prompts; names the base and the device.
        resolution: side in pixels.
        num_inference_steps: denoising steps.
        guidance_scale: classifier-free guidance scale.
        batch_size: pictures made at once.
    """
    options, folder, base = prior.options, Path(prior.options.root), cache.base
    # Shuffled, so that few pictures are of all contents, not of the first in the folder.
    prompts = [options.prompt] if options.prompt else sorted(set(contents), key=lambda text: seed_of("prior", text))
    file, says = folder / RECORD, {"unet": part_hash(base, "unet"), "prompts": prompts}
    if not file.is_file() and not prior.lacking:
        return
    record = _read(file) if file.is_file() else says | {"made": 0}
    if record != says | {"made": record["made"]}:
        what = "another base or other prompts made the pictures in %s; delete the folder to have them made again"
        return log.warning(what, folder)
    wanted = [i for i in range(record["made"], options.count) if not (folder / f"{i:04d}.png").is_file()]
    if not wanted:
        return
    write(file, json.dumps(record))
    from tqdm import tqdm

    log.warning("the base makes %d pictures in %s, before it is trained; look at them", len(wanted), folder)
    unet, vae = load_unet(base).to(cache.device), load_vae(base).to(cache.device)
    scheduler = own_scheduler(base, num_inference_steps)
    shape, empty = latent_shape(base, resolution, resolution), Conditioning(cache.texts([""])).to(cache.device)
    batches = [wanted[i : i + batch_size] for i in range(0, len(wanted), batch_size)]
    for some in tqdm(batches, "making pictures", unit="batch", disable=None):  # None: only on a terminal
        texts = [prompts[i % len(prompts)] for i in some]
        start = initial_noise([f"prior {i}" for i in some], shape).to(cache.device)
        given = Conditioning(cache.texts(texts)).to(cache.device)
        latents = denoise(unet, scheduler, start, given, empty, num_inference_steps, guidance_scale)
        pictures = decode(vae, latents, [f"{quoted(text)} (number {i})" for i, text in zip(some, texts, strict=True)])
        for i, text, picture in zip(some, texts, pictures, strict=True):
            write(folder / f"{i:04d}.txt", text)
            save_png(to_pil(picture), folder / f"{i:04d}.png")
    write(file, json.dumps(says | {"made": options.count}))


def _read(file: Path) -> dict:
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        return {name: record[name] for name in ("unet", "prompts", "made")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} is not what a training wrote there; delete its folder or give another") from error
