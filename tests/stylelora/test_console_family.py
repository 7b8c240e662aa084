"""What the processes of a run say of one another's end."""

import pytest

from stylelora.console.family import is_first, together
from stylelora.console.stopping import STOPPING, Stopped

BROKEN = RuntimeError("Connection closed by peer [127.0.0.1]:20368")


@pytest.fixture
def told(monkeypatch):
    """Tell this process which one of a run it is."""
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)

    def told(**ranks):
        for name, rank in ranks.items():
            monkeypatch.setenv(name, str(rank))

    return told


@pytest.mark.parametrize(
    ("ranks", "first"),
    [
        ({}, True),
        ({"RANK": 0, "LOCAL_RANK": 0}, True),
        ({"RANK": 4, "LOCAL_RANK": 0}, False),  # the first of the second machine
        ({"LOCAL_RANK": 1}, False),
        ({"SLURM_PROCID": 0}, True),
        ({"SLURM_PROCID": 3}, False),
    ],
)
def test_the_launcher_says_which_process_is_the_first(told, ranks, first):
    told(**ranks)
    assert is_first() == first


@pytest.mark.parametrize(
    ("rank", "asked", "error", "ends_with"),
    [
        (1, 15, BROKEN, Stopped),  # the first one was asked, too, and has ended
        (1, None, BROKEN, RuntimeError),
        (0, 15, BROKEN, RuntimeError),
        (1, 15, RuntimeError("out of paint"), RuntimeError),
    ],
)
def test_a_broken_link_after_a_signal_is_the_end_that_was_asked_for(told, rank, asked, error, ends_with):
    told(RANK=rank)
    with pytest.raises(ends_with) as ended, together():
        STOPPING.asked = asked
        raise error
    assert ended.value is error or ended.value.code == 128 + 15
