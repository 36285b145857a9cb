"""Mixed images have mixed labels."""

import pytest
import torch

from assocformer_hf.training.mixing import Mixing

LABELS = torch.tensor([[1.0, 0.0, -1.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])


def images() -> torch.Tensor:
    """Each image in one colour, that of its number."""
    return torch.arange(4.0)[:, None, None, None].expand(4, 3, 16, 16).clone()


@pytest.mark.parametrize("options", [{"mixup": 1.0}, {"cutmix": 1.0}, {"mixup": 0.5, "cutmix": 1.0}])
def test_labels_are_mixed_as_the_images_are(options):
    torch.manual_seed(0)
    for _ in range(20):
        mixed, soft = Mixing(**options)(images(), LABELS)
        before = torch.arange(4).roll(1)
        # The mean over an image says how much of each of the two is in it.
        share = (mixed.mean((1, 2, 3)) - before) / (torch.arange(4) - before)
        for i in range(4):
            expected = share[i] * LABELS[i] + (1 - share[i]) * LABELS[before[i]]
            known = (LABELS[i] >= 0) & (LABELS[before[i]] >= 0)
            torch.testing.assert_close(soft[i][known], expected[known])
            assert (soft[i][~known] == -1).all() or share[i] in (0, 1)


def test_smoothing_moves_known_labels_towards_a_half():
    pixels, soft = Mixing(label_smoothing=0.1)(images(), LABELS)
    torch.testing.assert_close(pixels, images())
    expected = torch.where(LABELS == 1, 0.95, torch.where(LABELS == 0, 0.05, -1.0))
    torch.testing.assert_close(soft, expected)


def test_without_options_nothing_changes():
    pixels, labels = images(), LABELS.clone()
    mixed, same = Mixing()(pixels, labels)
    assert mixed is pixels
    assert same is labels
