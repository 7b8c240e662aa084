"""What Lightning says of the trainer's settings, told from a defect by where it was raised."""

from __future__ import annotations

import re
import traceback

#: Where Lightning looks at its settings, and at the machine; errors raised elsewhere are defects.
_PLACES = re.compile(
    r"[/\\]lightning[/\\](pytorch|fabric)[/\\](accelerators[/\\]|strategies[/\\]|plugins[/\\]|loggers[/\\]"
    r"|trainer[/\\](connectors[/\\]|setup|configuration_validator|trainer)|profilers[/\\]|callbacks[/\\]"
    r"|loops[/\\](fit_loop|evaluation_loop|prediction_loop|training_epoch_loop|utilities)"
    r"|utilities[/\\](device_parser|parsing|seed|imports|testing[/\\]))"
)
_KINDS = (ValueError, TypeError, ImportError, RuntimeError, AttributeError, LookupError, OverflowError)


def about_settings(error: BaseException) -> str | None:
    """Return one sentence if an error is about the trainer's settings; None for any other.

    Lightning raises a dozen kinds of errors for values that it cannot use, mostly with a good sentence.
    """
    if type(error).__name__ == "MisconfigurationException":
        return " ".join(str(error).split())
    frames = traceback.extract_tb(error.__traceback__)
    if not isinstance(error, _KINDS) or not frames or not _PLACES.search(frames[-1].filename):
        return None
    text = " ".join(str(error).split())
    return f"a setting of the trainer cannot be used: {text or type(error).__name__}; see --trainer in --help_all"
