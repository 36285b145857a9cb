"""Where the evidence for a label came from, in words."""

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
        (1.0, {"sky": -2.0, "sea": 0.2}, "from the picture itself; sky took much of it away"),
        (-1.0, {"sky": 2.0}, "through other labels, above all sky; the picture itself speaks against it"),
        (-1.0, {"sky": -2.0}, "the picture itself speaks against it, and so do other labels, above all sky"),
        (-3.0, {"sky": -0.1}, "almost only from the picture itself, which speaks against it"),
        (2.0, {}, "almost only from the picture itself"),
    ],
)
def test_words_follow_the_shares(own, others, said):
    assert why_in_words(own, list(others.items())) == said
