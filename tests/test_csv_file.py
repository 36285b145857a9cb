"""CSV files that a spreadsheet cannot take for a program."""

import csv

from assocformer_hf.csv_file import write_csv


def test_formulas_are_text_and_numbers_stay_numbers(tmp_path):
    rows = [
        {"label": "=1+1", "value": -0.5, "labels": ["@SUM(A1)", "b"], "nothing": None},
        {"label": "+x", "value": 3, "labels": [], "nothing": "-"},
        {"label": "a=b", "value": 1 / 3, "labels": ["a, b"], "nothing": None},
    ]
    write_csv(tmp_path / "table.csv", rows)
    with open(tmp_path / "table.csv", newline="", encoding="utf-8") as file:
        read = [list(row.values()) for row in csv.DictReader(file)]
    assert read == [["'=1+1", "-0.5", "'@SUM(A1); b", ""], ["'+x", "3", "", "'-"], ["a=b", "0.333333", "a, b", ""]]
