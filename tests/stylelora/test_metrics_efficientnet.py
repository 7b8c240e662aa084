"""EfficientNet-Lite0's features know a picture again, and depend on no neighbour in the batch."""

import torch

from stylelora.data.images import fit, to_tensor
from stylelora.data.reading import open_picture
from stylelora.data.scan import scan_folder
from stylelora.data.styles import STYLES
from stylelora.metrics.efficientnet import EfficientNetLite0


def test_a_mirrored_picture_is_nearest_to_itself():
    pictures = [fit(open_picture(one.path), (64, 64), "lanczos") for one in scan_folder(STYLES["cartoon"].folder)[:12]]
    images = torch.stack([to_tensor(picture) for picture in pictures])
    network = EfficientNetLite0()
    features, mirrored = network.encode_images(images), network.encode_images(images.flip(-1))
    assert features.shape == (12, 1280)
    assert torch.allclose(network.encode_images(images[:1]), features[:1], atol=1e-4)
    centre, scale = features.mean(0), features.std(0) + 1e-3
    near = torch.nn.functional.normalize((mirrored - centre) / scale, dim=1)
    far = torch.nn.functional.normalize((features - centre) / scale, dim=1)
    assert torch.equal((near @ far.T).argmax(1), torch.arange(12))
    assert not any(parameter.requires_grad for parameter in network.model.parameters())
