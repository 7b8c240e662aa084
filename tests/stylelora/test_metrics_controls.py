import pytest
import torch

from stylelora.metrics.controls import cut, pixel_average
from stylelora.records import InputError

FIRST, SECOND = (torch.full((2, 3, 4, 10), value, dtype=torch.uint8) for value in (200, 101))


def test_pixels_are_mixed_by_the_share_and_rounded():
    assert pixel_average(FIRST, SECOND, 0.5).unique().tolist() == [150]  # 150.5, to the even one
    assert pixel_average(FIRST, SECOND, 0.7).unique().tolist() == [170]
    assert torch.equal(pixel_average(FIRST, SECOND, 1), FIRST)
    assert torch.equal(pixel_average(FIRST, SECOND, 0), SECOND)


def test_a_cut_has_each_picture_in_its_part_of_the_width():
    got = cut(FIRST, SECOND, 0.6)
    assert got.shape == FIRST.shape
    assert torch.equal(got[..., :6], FIRST[..., :6])
    assert torch.equal(got[..., 6:], SECOND[..., 6:])


@pytest.mark.parametrize("control", [pixel_average, cut])
def test_what_is_not_paired_is_refused(control):
    for first, second, share in (
        (FIRST, SECOND[:1], 0.5),
        (FIRST.float(), SECOND.float(), 0.5),
        (FIRST[0], SECOND[0], 0.5),
        (FIRST, SECOND, 1.5),
    ):
        with pytest.raises(InputError):
            control(first, second, share)
