"""What tests of faults share."""

import pytest


@pytest.fixture(scope="session")
def given(tiny_sd, tiny_clip, pictures, adapter_files):
    """What all entries may start from."""
    return {"base": tiny_sd, "clip": tiny_clip, "pictures": pictures, "ink": adapter_files[0], "oil": adapter_files[1]}
