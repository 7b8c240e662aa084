"""CLIP's tokenizer, built from the list of its merges, since single-file checkpoints have none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

#: The 48,894 merges of CLIP's byte-pair encoding, in order (Radford et al. 2021; MIT licence, see ATTRIBUTION.md).
MERGES = Path(__file__).parent / "configs" / "merges.txt"


def clip_tokenizer(folder: Path) -> CLIPTokenizer:
    """Build CLIP's tokenizer of 49,408 tokens: bytes, bytes at a word's end, merges, start and end of text.

    Args:
        folder: has `tokenizer_config.json`: padding token and length, in which SD 1.x and 2.x differ.
    """
    from transformers import CLIPTokenizer

    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = range(256, 512 - len(printable))  # stand for the bytes that are not printable
    characters = [chr(code) for code in (*printable, *others)]
    merges = [tuple(line.split()) for line in MERGES.read_text(encoding="utf-8").splitlines()]
    tokens = [*characters, *(f"{one}</w>" for one in characters), *("".join(pair) for pair in merges)]
    config = json.loads((folder / "tokenizer_config.json").read_text())
    tokens += [config["bos_token"], config["eos_token"]]
    return CLIPTokenizer(vocab={token: index for index, token in enumerate(tokens)}, merges=merges, **config)
