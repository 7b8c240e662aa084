"""Pack a trained base as float16: `python -m stylelora.pretraining.pack runs/mini/base stylelora/base/mini`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from safetensors.torch import load_file

from stylelora.files import safetensors_bytes, write


def pack(source: Path, output: Path) -> int:
    """Copy a checkpoint folder, converting weights to float16.

    Args:
        source: folder with `model_index.json`, its parts, and `scorer/`.
        output: folder to write them to.

    Returns:
        size of the weights in bytes.

    Raises:
        ValueError: if a weight cannot be written as float16 without overflow.
    """
    total = 0
    for path in sorted(source.rglob("*")):
        target = output / path.relative_to(source)
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        elif path.suffix == ".safetensors":
            weights = {name: w.half() if w.is_floating_point() else w for name, w in load_file(path).items()}
            if not all(weight.isfinite().all() for weight in weights.values()):
                raise ValueError(f"{path} holds weights beyond the range of float16")
            write(target, safetensors_bytes(weights, {"format": "pt"}))
            total += target.stat().st_size
        else:
            write(target, path.read_bytes())
    for config in output.rglob("config.json"):  # remove the path of the folder it was trained in
        record = json.loads(config.read_text())
        record.pop("_name_or_path", None)
        write(config, json.dumps(record, indent=2, sort_keys=True) + "\n")
    return total


if __name__ == "__main__":
    print(f"{pack(Path(sys.argv[1]), Path(sys.argv[2])) / 1e6:.1f} MB")
