"""Maps of A: what they hold, that they can be read, and how far A goes with the labels' co-occurrence."""

import csv
import time
import warnings

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.font_manager import fontManager
from PIL import Image
from scipy.stats import spearmanr

from assocformer_hf.interpretation.association_map import (
    association_figures,
    association_summary,
    cluster_order,
    conditional_cooccurrence,
    cooccurrence_correlation,
    map_figure,
    plot_association_map,
    rank_difference,
    save_association_data,
    strongest_pairs,
)
from assocformer_hf.interpretation.explanation import ImageExplanation, Influence, LabelExplanation, explanation_figure
from assocformer_hf.interpretation.label_names import plot_names


def association(labels: int, seed: int = 0) -> np.ndarray:
    """As the model makes it: the sigmoid of a positive semidefinite matrix of rank 4."""
    keys = np.random.default_rng(seed).normal(0, 1, (labels, 4))
    return 1 / (1 + np.exp(-keys @ keys.T))


def names(labels: int) -> list[str]:
    return [f"label {i} $of$ {labels}" for i in range(labels)]


def test_cooccurrence_is_the_share_of_the_row():
    counts = np.array([[10, 5, 0], [5, 20, 0], [0, 0, 0]])
    found = conditional_cooccurrence(counts)
    np.testing.assert_allclose(found[:2], [[1, 0.5, 0], [0.25, 1, 0]])
    assert np.isnan(found[2]).all()


def test_correlation_is_spearmans_over_pairs_of_different_labels():
    matrix, other = association(12), association(12, seed=1)
    off = ~np.eye(12, dtype=bool)
    found = cooccurrence_correlation(matrix, other, resamples=200)
    assert found.rho == pytest.approx(spearmanr(matrix[off], other[off]).statistic)
    assert found.low <= found.rho <= found.high
    same = cooccurrence_correlation(matrix, matrix**3, resamples=50)
    assert same == pytest.approx((1, 1, 1))
    assert cooccurrence_correlation(matrix, other, resamples=200) == found


def test_the_interval_is_that_of_spearmans_correlation_on_drawn_labels():
    """With ties, and a label without images: each resample by scipy, with the pairs of each draw written out."""
    matrix, other = association(9).round(1), association(9, seed=1).round(1)
    other[4] = np.nan
    values = []
    for drawn in np.random.default_rng(3).integers(0, 9, (60, 9)):
        kept = (drawn[:, None] != drawn) & ~np.isnan(other[np.ix_(drawn, drawn)])
        values.append(spearmanr(matrix[np.ix_(drawn, drawn)][kept], other[np.ix_(drawn, drawn)][kept]).statistic)
    found = cooccurrence_correlation(matrix, other, resamples=60, seed=3)
    assert (found.low, found.high) == pytest.approx(tuple(np.nanquantile(values, [0.025, 0.975])), abs=1e-12)


def test_400_labels_take_seconds():
    started = time.process_time()
    cooccurrence_correlation(association(400), np.random.default_rng(0).random((400, 400)), resamples=100)
    assert time.process_time() - started < 3  # 23 s where each resample is ranked anew


def test_correlation_leaves_labels_without_images_out_and_has_no_value_for_a_flat_map():
    matrix, other = association(8), association(8, seed=1)
    other[3] = np.nan
    kept = ~np.eye(8, dtype=bool) & ~np.isnan(other)
    expected = spearmanr(matrix[kept], other[kept]).statistic
    assert cooccurrence_correlation(matrix, other, resamples=50).rho == pytest.approx(expected)
    assert np.isnan(cooccurrence_correlation(np.full((8, 8), 0.5), other, resamples=50)).all()
    with pytest.raises(ValueError, match="at least 3 labels"):
        cooccurrence_correlation(matrix, other[:4])


def test_difference_of_ranks_is_zero_for_the_same_order_and_one_for_opposite_ends():
    matrix = association(6)
    np.testing.assert_allclose(rank_difference(matrix, matrix**2)[~np.eye(6, dtype=bool)], 0)
    flipped = rank_difference(matrix, 1 - matrix)
    assert np.nanmax(flipped) > 0.9
    assert np.nanmin(flipped) < -0.9
    assert np.isnan(np.diag(flipped)).all()


def test_clustering_puts_the_labels_of_a_block_together():
    groups = np.arange(12) % 3
    order = cluster_order(np.where(groups[:, None] == groups, 0.9, 0.2))
    assert sorted(order) == list(range(12))
    assert (np.diff(groups[order]) != 0).sum() == 2


@pytest.mark.parametrize("count", [2, 20, 80])
def test_labels_do_not_overlap(count):
    cooccurrence = conditional_cooccurrence(np.full((count, count), 3))
    figures = association_figures(association(count), names(count), cooccurrence)
    assert list(figures) == ["association_map", "cooccurrence_map", "difference_map", "association_graph"]
    for name, figure in figures.items():
        FigureCanvasAgg(figure).draw()
        renderer, axes = figure.canvas.get_renderer(), figure.axes[0]
        groups = [axes.get_xticklabels(), axes.get_yticklabels()] if name.endswith("map") else [axes.texts]
        whole = figure.bbox
        for texts in groups:
            boxes = [text.get_window_extent(renderer) for text in texts]
            assert all(whole.x0 <= box.x0 and box.x1 <= whole.x1 and box.y1 <= whole.y1 for box in boxes)
            # Turned names of a circle lie in boxes that meet without the names meeting; those along an axis do not.
            if name.endswith("map"):
                assert not any(one.overlaps(other) for one, other in zip(boxes, boxes[1:], strict=False))


ODD_NAMES = [
    "image", "bias", "itself", "all other labels", "$^$", "$", "\\$x$", r"$\frac{", "=1+1", "", " ",
    "pneumonoultramicroscopicsilicovolcanoconiosis-left", "pneumonoultramicroscopicsilicovolcanoconiosis-right",
    "the same long beginning of a name, first", "the same long beginning of a name, second",
]  # fmt: skip


@pytest.mark.parametrize("labels", [ODD_NAMES, ["$^$"], ["=1+1", "$^$"]])
def test_every_label_name_is_drawn_as_it_is(labels):
    count = len(labels)
    figures = association_figures(association(count), labels, conditional_cooccurrence(np.full((count, count), 3)))
    assert bool(figures) == (count > 1)  # a single label is associated with nothing
    figures["titled"] = map_figure(association(count), labels, r"$\frac{ on $^$")
    for figure in figures.values():
        FigureCanvasAgg(figure).draw()
    explained = [Influence(name, 0.5, 0.4) for name in labels]
    explanation = ImageExplanation(
        labels, np.full(count, 0.6), np.full(count, 0.5), association(count), association(count), None,
        [LabelExplanation(labels[0], 0.6, 0.4, 0.5, 0.1, 0.2, explained[0], explained[1:])],
    )  # fmt: skip
    FigureCanvasAgg(explanation_figure(Image.new("RGB", (8, 8)), explanation)).draw()


def test_names_on_plots_are_short_different_and_never_an_ellipsis_alone():
    shown = plot_names(ODD_NAMES)
    assert len(set(shown)) == len(shown)
    assert max(map(len, shown)) <= 30
    assert all(name.strip("…") for name in shown)
    assert [name[-5:] for name in shown if name.startswith("pneumono")] == ["-left", "right"]
    many = plot_names([f"{'a' * 20}{i}{'b' * 20}" for i in range(12)])
    assert len(set(many)) == 12


@pytest.fixture
def cjk_font(tmp_path):
    """An installed font with the signs 猫 and 犬, both of them a square."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 800), (800, 800), (800, 0)):
        pen.lineTo(corner)
    pen.closePath()
    font, glyphs = FontBuilder(1000), [".notdef", "square"]
    font.setupGlyphOrder(glyphs)
    font.setupCharacterMap({ord(sign): "square" for sign in "猫犬"})
    font.setupGlyf(dict.fromkeys(glyphs, pen.glyph()))
    font.setupHorizontalMetrics(dict.fromkeys(glyphs, (1000, 0)))
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": "Noto Sans CJK JP", "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(tmp_path / "cjk.ttf")
    before = list(fontManager.ttflist)
    fontManager.addfont(tmp_path / "cjk.ttf")
    yield
    fontManager.ttflist[:] = before


def test_names_in_other_scripts_are_drawn_in_fonts_that_have_them(cjk_font, tmp_path, caplog):
    dark = []
    for signs in ("猫犬", "鳥魚"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for _ in range(2):
                plot_association_map(association(3), ["a", *(20 * sign for sign in signs)], tmp_path / "map.png", signs)
        dark.append((np.asarray(Image.open(tmp_path / "map.png").convert("L")) < 50).sum())
    assert [record.getMessage().partition(",")[0] for record in caplog.records] == ["no font in use has 魚鳥"]
    assert dark[0] > 1.2 * dark[1]  # squares, not boxes


def test_a_flat_map_is_not_drawn_and_said_to_be_flat():
    flat = 0.5 + 0.01 * (association(20) - 0.5)
    assert association_figures(flat, names(20)) == {}
    assert "A is flat: it varies by 0.00" in association_summary(flat, names(20))
    i, j = strongest_pairs(association(20))[0]
    assert f"label {i} $of$ 20 and label {j} $of$ 20" in association_summary(association(20), names(20))


def test_of_many_labels_those_with_the_strongest_associations_are_drawn():
    matrix = 0.5 + 0.02 * (association(130) - 0.5)
    matrix[[0, 1, 2, 50]] = matrix[:, [0, 1, 2, 50]] = 0.9
    figures = association_figures(matrix, names(130))
    drawn = [text.get_text() for text in figures["association_map"].axes[0].get_xticklabels()]
    assert len(drawn) == 100
    assert sum(text.startswith(("label 0 ", "label 1 ", "label 2 ", "label 50 ")) for text in drawn) == 4
    assert "100 of 130 labels" in figures["association_map"].axes[0].get_title()


def test_data_hold_the_matrices_and_every_ordered_pair(tmp_path):
    matrix, cooccurrence = association(5), association(5, seed=1)
    save_association_data(tmp_path, matrix, names(5), cooccurrence)
    stored = np.load(tmp_path / "association.npz")
    np.testing.assert_array_equal(stored["association"], matrix)
    assert stored["label_names"].tolist() == names(5)
    with open(tmp_path / "association_pairs.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20
    assert (rows[0]["label"], rows[0]["other"]) == tuple(names(5)[i] for i in strongest_pairs(matrix)[0])
    for row in rows:
        c, j = names(5).index(row["label"]), names(5).index(row["other"])
        assert float(row["association"]) == pytest.approx(matrix[c, j], rel=1e-5)
        assert float(row["cooccurrence"]) == pytest.approx(cooccurrence[c, j], rel=1e-5)


def test_a_map_is_written_in_the_format_of_its_name(tmp_path):
    plot_association_map(association(20), names(20), tmp_path / "map.png")
    plot_association_map(association(20), names(20), tmp_path / "map.svg", "title")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "map.svg").read_bytes()
