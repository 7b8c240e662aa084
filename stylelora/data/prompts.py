"""Prompts to sample, with options of their own as kohya's scripts write them: `a cat --n blurry --w 512 --d 42`."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stylelora.data.unicode import plain
from stylelora.records import InputError
from stylelora.texts import parse_json, parse_toml, parse_yaml, printable, read_text

#: Option of a line -> its field; the letters are kohya's.
LETTERS = {
    "n": "negative_prompt",
    "w": "width",
    "h": "height",
    "d": "seed",
    "s": "num_inference_steps",
    "l": "guidance_scale",
}
#: Key of a record in kohya's TOML and JSON -> its field.
KEYS = {"sample_steps": "num_inference_steps", "scale": "guidance_scale"}
#: Option or key of other programs -> why nothing here reads it.
FOREIGN = {
    **dict.fromkeys(("--ss", "sample_sampler"), "all prompts are sampled with the base's scheduler"),
    **dict.fromkeys(("--cn", "controlnet_image"), "there are no ControlNets"),
    **dict.fromkeys(("--ctr", "--rcfg", "--g", "--fs"), "it is for newer models than Stable Diffusion 1.x and 2.x"),
}
#: Numeric field -> kind, least and greatest value. No scheduler has more steps than the 1000 of the training.
NUMBERS = {
    "width": (int, 1, math.inf),
    "height": (int, 1, math.inf),
    "seed": (int, 0, math.inf),
    "num_inference_steps": (int, 1, 1000),
    "guidance_scale": (float, 0, math.inf),
}


@dataclass(frozen=True)
class SamplePrompt:
    """A prompt to sample; what is None is as the run has it for all prompts.

    Attributes:
        prompt: text without trigger words.
        negative_prompt: what guidance leads away from.
        width: in pixels.
        height: in pixels.
        seed: of the first picture; further ones have the next numbers.
        num_inference_steps: denoising steps, 1 to 1000.
        guidance_scale: guidance scale (CFG), at least 0.
        where: its place, for messages, such as `prompts.txt line 3`.
        notes: what was not taken over as it was written, a sentence each.
    """

    prompt: str
    negative_prompt: str | None = None
    width: int | None = None
    height: int | None = None
    seed: int | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    where: str = field(default="", compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def of_line(cls, line: str, where: str) -> SamplePrompt:
        """Read a prompt from a line such as `a cat --n blurry --w 512 --h 768 --d 42 --l 7.5 --s 28`.

        Raises:
            InputError: for an option without a value or twice, or a value that is none.
        """
        return cls.of_record({"prompt": line}, where)

    @classmethod
    def of_record(cls, record: Mapping[str, Any] | str, where: str) -> SamplePrompt:
        """Read a prompt from a line, or from a record with the field names of this class or kohya's.

        Raises:
            InputError: if there is no prompt, or a value is none.
        """
        record = {"prompt": record} if isinstance(record, str) else record
        if not isinstance(record, Mapping) or not isinstance(record.get("prompt"), str):
            raise InputError(f"{where} has no prompt; write a text, or a record with the keys prompt, width and so on")
        text, given = _split(plain(record["prompt"]), where)
        given += [(str(key), value) for key, value in record.items() if key != "prompt" and value is not None]
        values: dict[str, Any] = {}
        notes = []
        for name, value in given:
            short = name.removeprefix("--")
            known = LETTERS.get(short.lower()) if short != name else KEYS.get(name, name)
            if known in values:
                raise InputError(f"{where} gives {name} twice; keep one")
            if known in NUMBERS:
                values[known] = _number(known, value, f"{where}: {name}")
            elif known == "negative_prompt":
                if isinstance(value, bool) or not isinstance(value, str | int | float):
                    raise InputError(f"{where}: {name} is {value}; give a text")
                values[known] = plain(str(value)).strip()
            else:
                known = ", ".join(f"--{letter}" for letter in LETTERS) if short != name else ", ".join(LETTERS.values())
                why = FOREIGN.get(name.lower(), f"it is no option of a prompt; these are {known}")
                notes.append(f"{name} is ignored: {why}")
        return cls(text, **values, where=where, notes=tuple(notes))

    @property
    def way(self) -> tuple[tuple[int | None, int | None], int | None, float | None]:
        """Return size, steps and guidance scale, in which the prompts of a batch must agree."""
        return (self.width, self.height), self.num_inference_steps, self.guidance_scale

    def without(self, trigger: str) -> SamplePrompt:
        """Return the prompt without a trigger word, which training puts in front of all: files of others have it."""
        words = [word.strip() for word in self.prompt.split(",")]
        if trigger not in words:
            return self
        note = f"{trigger!r} is put in front of all prompts, so it is not taken from the prompt as well"
        rest = ", ".join(word for word in words if word != trigger)
        return dataclasses.replace(self, prompt=rest, notes=(*self.notes, note))


def _split(line: str, where: str) -> tuple[str, list[tuple[str, Any]]]:
    """Return the text of a line, and its options as they are written."""
    text, *options = re.split(r"(?:^|\s)\s*--(?=[A-Za-z])", line)
    given: list[tuple[str, Any]] = []
    for option in options:
        letters, value = re.fullmatch(r"([\w-]+)[\s=]*(.*)", option.strip(), re.DOTALL).groups()
        if letters.lower() in LETTERS and not value:
            raise InputError(f"{where}: --{letters} has no value; give one or remove it")
        given.append((f"--{letters}", value))
    if options and not text.strip():
        raise InputError(f"{where} has options but no prompt; write the prompt first, as in: a cat --w 512")
    return text.strip(), given


def _number(name: str, value: Any, where: str) -> float:
    kind, least, greatest = NUMBERS[name]
    try:
        number = kind(str(value))
    except ValueError:
        number = math.nan
    if not (least <= number <= greatest and number < math.inf):
        what = f"{'a whole' if kind is int else 'a'} number of at least {least}"
        raise InputError(f"{where} is {value}; give {what}" + f" and at most {greatest}" * (greatest < math.inf))
    return number


def choose_prompts(
    prompts: Sequence[str] | None, file: str | None, option: str, negative_prompt: str, default: Sequence[str]
) -> list[SamplePrompt]:
    """Return the prompts of a list or a file, or the default ones; each with a negative prompt.

    Args:
        prompts: lines, as of `SamplePrompt.of_line`.
        file: path of a file, as of `read_prompts`.
        option: name of the option that names the file.
        negative_prompt: for prompts that have none of their own.
        default: prompts if there is neither a list nor a file.

    Raises:
        InputError: if both are given, or one cannot be read.
    """
    if prompts is not None and file is not None:
        raise InputError(f"give data.prompts or data.{option}, not both")
    if file is not None:
        chosen = read_prompts(Path(file))
    elif prompts is not None:
        chosen = [SamplePrompt.of_line(line, f"data.prompts {i}") for i, line in enumerate(prompts, start=1)]
    else:
        chosen = [SamplePrompt(text) for text in default]
    return [
        dataclasses.replace(one, negative_prompt=negative_prompt) if one.negative_prompt is None else one
        for one in chosen
    ]


def read_prompts(path: Path) -> list[SamplePrompt]:
    """Read prompts from a file.

    Text has a prompt on each line, as of `SamplePrompt.of_line`; lines that begin with # are comments. JSON and YAML
    have a list of such lines or of records; TOML has records as kohya's scripts read them, in `[[prompt.subset]]`.

    Raises:
        InputError: if the file cannot be read, holds something else or no prompt.
    """
    text, name = read_text(path), printable(path)
    if (ending := path.suffix.lower()) in (".json", ".yaml", ".yml", ".toml"):
        records = _records(text, ending, name)
        prompts = [SamplePrompt.of_record(record, f"{name} prompt {i}") for i, record in enumerate(records, start=1)]
    else:
        lines = [(i, line.strip()) for i, line in enumerate(text.split("\n"), start=1)]
        prompts = [SamplePrompt.of_line(line, f"{name} line {i}") for i, line in lines if line and line[0] != "#"]
    if not prompts:
        raise InputError(f"{name} has no prompts; write one on each line")
    return prompts


def _records(text: str, ending: str, name: str) -> list:
    found = {".json": parse_json, ".toml": parse_toml}.get(ending, parse_yaml)(text, name)
    try:
        if ending == ".toml":
            common = {key: value for key, value in found["prompt"].items() if key != "subset"}
            found = [{**common, **subset} for subset in found["prompt"]["subset"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{name} has no list of [[prompt.subset]]; write each prompt below one") from error
    if not isinstance(found, list):
        raise InputError(f"{name} holds no list; write a list of prompts, such as [a cat, a dog]")
    return found


def prompt_batch(prompts: Sequence[SamplePrompt], rows: Sequence[int], samples_per_prompt: int) -> dict:
    """Return what a batch of samples has in common, and what each has of its prompt.

    Args:
        prompts: all prompts.
        rows: numbers of the samples; each prompt has `samples_per_prompt`, which follow one another.
        samples_per_prompt: pictures per prompt, whose seeds are the prompt's own and the next, or 0, 1, ...

    Returns:
        lists `index`, `place` (of the prompt), `content`, `negative_prompt` and `seed`; of all, `size`, width and
        height in pixels, `num_inference_steps` and `guidance_scale`; these are None where the run decides.
    """
    places, numbers = zip(*(divmod(row, samples_per_prompt) for row in rows), strict=True)
    chosen = [prompts[place] for place in places]
    (size, steps, guidance_scale), *_ = (one.way for one in chosen)
    return {
        "index": list(rows),
        "place": list(places),
        "content": [one.prompt for one in chosen],
        "negative_prompt": [one.negative_prompt for one in chosen],
        "seed": [(one.seed or 0) + number for one, number in zip(chosen, numbers, strict=True)],
        "size": size,
        "num_inference_steps": steps,
        "guidance_scale": guidance_scale,
    }
