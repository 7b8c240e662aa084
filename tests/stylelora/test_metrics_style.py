"""What the style loss and the style judgement promise."""

import torch
import torch.nn.functional as F

from lightning_modules.pretraining.style_encoder import contrast_of_styles
from stylelora.metrics.style import in_style, style_similarity
from stylelora.pretraining.renderings import RENDERINGS, rendered


def test_the_contrast_equals_its_definition():
    """Khosla et al. 2020, eq. 2, by brute force."""
    vectors = F.normalize(torch.randn(6, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    labels = torch.tensor([0, 0, 1, 1, 1, 0])
    terms = []
    for i in range(6):
        others = [j for j in range(6) if j != i]
        below = sum((vectors[i] @ vectors[j] / 0.2).exp() for j in others)
        same = [j for j in others if labels[j] == labels[i]]
        terms += [-((vectors[i] @ vectors[j] / 0.2).exp() / below).log() for j in same]
    assert torch.allclose(contrast_of_styles(vectors, labels, 0.2), torch.stack(terms).mean(), atol=1e-6)


def test_in_style_means_nearer_than_nearly_all_of_the_base():
    generator = torch.Generator().manual_seed(0)
    style, other = F.normalize(torch.randn(2, 16, generator=generator), dim=1)
    near = lambda to, n: F.normalize(to + 0.1 * torch.randn(n, 16, generator=generator), dim=1)  # noqa: E731
    references, base = near(style, 20), near(other, 200)
    assert in_style(near(style, 50), base, references).all()
    assert in_style(near(other, 400), base, references).float().mean() < 0.12
    assert style_similarity(references, references).min() > 0.8


def test_renderings_keep_shape_and_range_and_differ():
    pictures = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    done = [rendered(pictures, number) for number in range(len(RENDERINGS))]
    for one in done:
        assert one.shape == pictures.shape
        assert one.min() >= 0
        assert one.max() <= 1
    assert all(not torch.allclose(a, b, atol=1e-2) for i, a in enumerate(done) for b in done[:i])
