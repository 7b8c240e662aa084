"""The byte-pair vocabulary of the embedded base, in CLIP's own format."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import CLIPTokenizer


def train_tokenizer(texts: Iterable[str], vocab_size: int = 2048) -> CLIPTokenizer:
    """Train a small CLIP tokenizer, deterministically.

    As in CLIP the vocabulary is: every byte, every byte at a word's end, the merges, start and end of text. So every
    text can be written in it, trigger words and other languages too, only with more tokens.

    Args:
        texts: captions to learn the merges from.
        vocab_size: number of tokens in all.

    Returns:
        tokenizer with `model_max_length` 77.
    """
    import json

    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = normalizers.Lowercase()
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    fixed = [*alphabet, *(f"{byte}</w>" for byte in alphabet)]
    learner.train_from_iterator(
        sorted(texts),
        trainers.BpeTrainer(
            vocab_size=vocab_size, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
        ),
    )
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    merges = merges[: vocab_size - len(fixed) - 2]
    tokens = [*fixed, *("".join(pair) for pair in merges), "<|startoftext|>", "<|endoftext|>"]
    vocab = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77)
