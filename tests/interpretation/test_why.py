"""Where the evidence for a label came from, in words."""

import math

import pytest

from assocformer_hf.interpretation.why import why_in_words


@pytest.mark.parametrize(
    ("own", "others", "said"),
    [
        (3.0, {"sky": 0.4, "sea": 0.3, "car": -0.1}, "mostly from the picture itself; sky and sea added a little"),
        (3.0, {"sky": 0.4, "sea": 0.1}, "mostly from the picture itself; sky added a little"),
        (3.0, {"sky": 0.1}, "almost only from the picture itself"),
        (1.0, {"sky": 1.0, "car": -0.1}, "half from the picture itself, half through other labels, above all sky"),
        (0.5, {"sky": 2.0, "sea": 1.0}, "mostly through other labels, above all sky and sea"),
        (3.0, {"sky": -0.5}, "from the picture itself; sky took a little of it away"),
        (2.0, {"sky": -2.0, "sea": 0.2}, "from the picture itself; sky took much of it away"),
        (1.0, {"sky": -2.0, "sea": 0.2}, "from the picture itself; sky took all of it away"),
        (-5.0, {"sky": 1.0}, "the picture itself speaks against it; sky spoke for it, but not enough"),
        (0.1, {"sky": 5.0, "sea": -4.99}, "from the picture itself; what other labels added and took away cancels out"),
        (-1.0, {"sky": 2.0}, "through other labels, above all sky; the picture itself speaks against it"),
        (-1.0, {"sky": -2.0}, "the picture itself speaks against it, and so do other labels, above all sky"),
        (-3.0, {"sky": -0.1}, "almost only from the picture itself, which speaks against it"),
        (2.0, {}, "almost only from the picture itself"),
    ],
)
def test_words_follow_the_shares(own, others, said):
    assert why_in_words(own, list(others.items())) == said


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_a_label_that_is_predicted_is_not_spoken_against(threshold):
    predicted = why_in_words(20.0, [("sky", 0.1)], threshold)
    assert predicted == "almost only from the picture itself"
    logit = math.log(max(threshold, 1e-7) / max(1 - threshold, 1e-7))
    assert (
        why_in_words(logit + 0.2, [("sky", -0.1)], threshold) == "from the picture itself; sky took a little of it away"
    )
    assert why_in_words(logit - 0.2, [("sky", 0.1)], threshold).startswith("the picture itself speaks against it; sky")
