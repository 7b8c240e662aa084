"""Silence what a user cannot act on; everything else is shown."""

from __future__ import annotations

import logging
import warnings


def quiet() -> None:
    """Filter messages of the libraries below, for programs; as a library this package changes no filters."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # a bar for each load of a 30 ms model
    rank_zero = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    rank_zero.addFilter(lambda record: "Tip:" not in record.getMessage())  # an advertisement
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning 2.6 calls what torch 2.13 deprecates
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")  # tensors in memory need none
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")  # small sets have few steps
