"""Labels in cells: their names, whatever form they are written in."""

import ast
import csv
import io
import json
import re
import tokenize
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

from assocformer_hf.data.readers.states import is_empty, plain
from assocformer_hf.data.schema import DataError

DELIMITERS = ("|", ";", ",")
QUOTED = re.compile(r'(?:^|(?<=[|;,]))\s*"(?:[^"]|"")*"(?=\s*(?:[|;,]|$))')  # a label
NUMBER = re.compile(r"-?\d+")
UNDIVIDED = re.compile(r"[\w.-]*")  # needs no quotes in a cell of text


def find_delimiter(values: Sequence, delimiter: str | None = None, names: Sequence[str] | None = None) -> str | None:
    """What divides the labels in cells of text; None where nothing does.

    With a label set it is the first of none, `|`, `;`, `,` and the space that divides every cell into labels of the
    set; without one it is whichever of `|`, `;` and `,` occurs.

    Raises:
        DataError: if several of them occur, and no label set tells which one divides.
    """
    cells = {value.strip() for value in values if isinstance(value, str)} - {""}
    if delimiter is not None or _are_lists(cells, delimiter):
        return delimiter
    if names:
        for candidate in (None, *DELIMITERS, " "):
            if _divides(candidate, cells, names):
                return candidate
    bare = [QUOTED.sub("", cell) for cell in cells]
    found = [candidate for candidate in DELIMITERS if any(candidate in cell for cell in bare)]
    if len(found) > 1:
        example = next(cell for cell in cells if found[0] in cell)
        raise DataError(
            f"labels such as {example!r}: {' and '.join(found)} both occur; say which one divides them as delimiter, "
            "or write lists in JSON"
        )
    return found[0] if found else None


def with_choices(values: Sequence) -> Sequence:
    """Cells of Label Studio's CSV export as lists: it writes one choice as text, several as `{"choices": ["a", "b"]}`.

    Raises:
        DataError: if a cell begins so, and is no such object.
    """
    written = [isinstance(value, str) and re.match(r'\s*\{\s*"choices"', value) is not None for value in values]
    if not any(written):
        return values
    return [
        _choices(value) if is_written else value if is_empty(value) else [value.strip()]
        for value, is_written in zip(values, written, strict=True)
    ]


def _choices(cell: str) -> list[str]:
    try:
        return json.loads(cell)["choices"]
    except ValueError as error:
        raise DataError(
            f"labels {cell!r:.80}: not valid JSON ({error}); give the JSON export of Label Studio"
        ) from error


def _divides(delimiter: str | None, cells: Iterable[str], names: Sequence[str]) -> bool:
    """Whether a delimiter divides every cell into labels of the set."""
    try:
        return all(set(divide(cell, delimiter)) <= set(names) for cell in cells)
    except DataError:
        return False


def divide(cell: str, delimiter: str | None) -> list[str]:
    """The labels in a cell of text; those that contain the delimiter are in double quotes, others may be."""
    if not cell.strip():
        return []
    broken = "labels {!r}: a line break; put a label with one in double quotes, or {} in its place"
    if delimiter is None:
        quoted = re.fullmatch(r'"((?:[^"]|"")+)"', cell.strip())
        if not quoted and re.search(r"[\r\n]", cell.strip()):
            raise DataError(broken.format(cell, DELIMITERS[0]))
        return [quoted[1].replace('""', '"') if quoted else cell.strip()]
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise DataError(f"delimiter must be a single character, such as | or a tab; got {delimiter!r}")
    try:
        rows = list(csv.reader(io.StringIO(cell, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise DataError(f"labels {cell!r}: a quote is not closed or not at the start of a label ({error})") from error
    if len(rows) > 1:
        raise DataError(broken.format(cell, delimiter))
    (parts,) = rows
    return [part.strip() for part in parts if part.strip()]


def quoted_cell(name: str) -> str:
    """A cell of text that [`divide`] gives the name of, which may contain what divides labels."""
    if UNDIVIDED.fullmatch(name):
        return name
    return '"' + name.replace('"', '""') + '"'


def read_labels(
    values: Sequence, origin: str, delimiter: str | None = None, names: Sequence[str] | None = None
) -> Sequence[Sequence[str]]:
    """A column of labels as lists of names.

    Args:
        values: texts, lists of texts, whole numbers (1.0 is one) or lists of them, one for each image; nothing stands
            for no label. A text may be a list in JSON, or a list, tuple or set of Python's; else the delimiter divides
            it.
        origin: what errors call the column.
        delimiter: from [`find_delimiter`]; where one is given, texts are lists only if one of them can be read so.
        names: the label set; whole numbers are indices into it, or, where every list is as long as the set and holds
            nothing but 1 and 0, states of each label, as lists of true and false always are. Without it, and where its
            names are whole numbers, numbers are names.

    Raises:
        DataError: if a column mixes types, or lists of 1 and 0 can be read in two ways, or are not as long as the
            label set.
    """
    if all(type(value) is str for value in values):
        if _are_lists(set(values), delimiter):
            lists = [_written_list(value, f"{origin}: row {i + 1}") for i, value in enumerate(values)]
            return read_labels(lists, origin, names=names)
        rows_of = {}
        for value in dict.fromkeys(values):
            try:
                rows_of[value] = divide(_no_dictionary(value), delimiter)
            except DataError as error:
                raise DataError(f"{origin}: row {list(values).index(value) + 1}: {error}") from error
        divided = [rows_of[value] for value in values]
        _refuse_states(divided, ("0", "1"), origin, names)
        return divided
    values = [None if is_empty(value) else _whole(plain(value)) for value in values]
    kinds: dict[str, int] = {}
    for i, value in enumerate(values):
        if value is not None:
            kinds.setdefault(_kind(value), i)
            if isinstance(value, list):
                for entry in value:
                    kinds.setdefault(f"list of {_kind(entry)}", i)
    entries = [kind for kind in kinds if kind.startswith("list of")]
    for mixed in ([kind for kind in kinds if kind not in entries], entries):
        if len(mixed) > 1:
            where = " and ".join(f"{kind} (row {kinds[kind] + 1})" for kind in mixed[:2])
            raise DataError(f"{origin}: mixes {where}; write all rows alike")
    if kinds.keys() <= {"list", "list of bool"} and entries:
        return _of_flags(values, origin, names or ())
    allowed = ("text", "whole number", "list", "list of text", "list of whole number")
    if wrong := [kind for kind in kinds if kind not in allowed]:
        shown = wrong[0].removeprefix("list of ")
        raise DataError(f"{origin}: row {kinds[wrong[0]] + 1}: {shown} is no label; use names or whole numbers")
    if "text" in kinds:
        return read_labels([value or "" for value in values], origin, delimiter, names)
    rows = [[] if value is None else value if isinstance(value, list) else [value] for value in values]
    if "whole number" in kinds or "list of whole number" in kinds:
        return _named(rows, origin, names, lists="list" in kinds)
    _refuse_states(rows, ("0", "1"), origin, names)
    return rows


def _whole(value):
    """Floats that are whole numbers as such: a column of numbers with a gap is of floats in pandas."""
    if isinstance(value, list):
        return list(map(_whole, value))
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _kind(value) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, list)):
        return type(value).__name__
    return {str: "text", int: "whole number", list: "list"}[type(value)]


def _are_lists(cells: Iterable[str], delimiter: str | None) -> bool:
    """Whether cells of text are meant as lists; with a delimiter that was given, only if one of them can be read so."""
    return any(_is_list(cell) and (delimiter is None or any(_parsed(cell))) for cell in cells)


def _parsed(value: str) -> Iterator[tuple[Callable, list | tuple | set | dict]]:
    """What text says in JSON, and in Python, where that is a list or the like, with what parsed it."""
    for parse in (json.loads, ast.literal_eval):
        try:
            parsed = parse(value.strip())
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(parsed, (list, tuple, set, dict)):
            yield parse, parsed


def _no_dictionary(cell: str) -> str:
    """The cell; raises DataError for one that holds a dictionary."""
    if cell.lstrip().startswith("{") and any(isinstance(parsed, dict) for _, parsed in _parsed(cell)):
        raise DataError(f"labels {cell!r:.80} are a dictionary; write lists, or a column for each label")
    return cell


def _is_list(value: str) -> bool:
    """Whether text is meant as a list; parentheses and braces may also be part of a label."""
    text = value.strip()
    if not text.startswith(("(", "{", "set(")):
        return text.startswith("[")
    return any(isinstance(parsed, (tuple, set)) for _, parsed in _parsed(text))


def _written_list(value: str, origin: str) -> list | None:
    """A list that is written as text."""
    if not value.strip():
        return None
    for parse, parsed in _parsed(value):
        if not isinstance(parsed, dict):
            if parse is ast.literal_eval and _lacks_a_comma(value):
                raise DataError(f'{origin}: {value!r:.80} has no comma between two labels; write ["cat", "dog"]')
            return list(parsed)
    if value.lstrip().startswith("["):
        raise DataError(
            f'{origin}: {value!r:.80} begins like a list and is none; write lists such as ["cat"], or, where [ is part '
            "of a name, give the delimiter"
        )
    raise DataError(f'{origin}: {value!r:.80} is not a list, as other rows are; write all rows alike, such as ["cat"]')


def _lacks_a_comma(value: str) -> bool:
    """Whether two texts follow each other, as numpy prints them; Python takes them for one."""
    tokens = [one.type for one in tokenize.generate_tokens(io.StringIO(value.strip()).readline)]
    kinds = [kind for kind in tokens if kind != tokenize.NL]
    return any(kind == after == tokenize.STRING for kind, after in pairwise(kinds))


def _of_flags(values: Sequence[list[bool] | None], origin: str, names: Sequence[str]) -> list[list[str]]:
    """What lists of true and false say, one for each label."""
    rows = [value or [] for value in values]
    if wrong := next(((i, row) for i, row in enumerate(rows, 1) if len(row) != len(names)), None):
        raise DataError(
            f"{origin}: row {wrong[0]}: {len(wrong[1])} times true or false, and label_names has {len(names)}: give "
            "each list one for each of label_names"
        )
    return [[name for name, is_there in zip(names, row, strict=True) if is_there] for row in rows]


def _named(rows: list[list[int]], origin: str, names: Sequence[str] | None, lists: bool) -> list[list[str]]:
    filled = [row for row in rows if row]
    states = lists and all(set(row) <= {0, 1, -1} for row in filled)
    if names is None:
        if states and filled and len(filled[0]) > 1 and all(len(row) == len(filled[0]) for row in filled):
            raise DataError(
                f"{origin}: lists of {len(filled[0])} numbers that are all 1 or 0: give the names of the "
                f"{len(filled[0])} labels as label_names"
            )
        return [[str(number) for number in row] for row in rows]
    of_each = states and all(len(row) == len(names) for row in filled)
    # A model that was trained on numbers has them as its names: they are no indices into these.
    if all(map(NUMBER.fullmatch, names)):
        if not of_each or (list(names) == ["1"] and all(row == [1] for row in filled)):
            return [[str(number) for number in row] for row in rows]
        if all(len(set(row)) == len(row) for row in filled):
            raise DataError(
                f"{origin}: lists of {len(names)} numbers 1 and 0 can be states of the labels or their names; write "
                "names as text"
            )
    if of_each:
        if any(-1 in row for row in filled):
            raise DataError(f"{origin}: -1 in a list of 1 and 0; give a column for each label, or a column unknown")
        if len(filled) < len(rows) or (len(names) == 1 and not any(1 in row for row in filled)):
            raise DataError(
                f"{origin}: lists of {len(names)} numbers 1 and 0 can be states of the labels or their indices; write "
                "names, and an empty list for no label"
            )
        return [[name for name, state in zip(names, row, strict=True) if state] for row in rows]
    _refuse_states(rows, (0, 1, -1), origin, names)
    for i, row in enumerate(rows):
        outside = [number for number in row if not 0 <= number < len(names)]
        if outside:
            raise DataError(
                f"{origin}: row {i + 1}: label {outside[0]}, but there are {len(names)} (0 to {len(names) - 1})"
            )
    return [[names[number] for number in row] for row in rows]


def _refuse_states(rows: Sequence[Sequence], states: Sequence, origin: str, names: Sequence[str] | None):
    """Raises DataError where lists are states, but not of the label set."""
    if length := length_of_states(rows, states):
        given = f", and label_names has {len(names)}" if names else ""
        raise DataError(
            f"{origin}: {length} numbers in each row that are all 1 or 0{given}: give the names of the {length} labels "
            "as label_names, and the numbers as lists, such as [1, 0, 1]"
        )


def length_of_states(rows: Sequence[Sequence], states: Sequence) -> int:
    """The length of lists that are all as long and repeat 1 or 0; 0 for other lists.

    A single list, as a stream has it, must hold both.
    """
    filled = [row for row in rows if row]
    length = len(filled[0]) if filled else 0
    alike = length > 1 and all(len(row) == length and set(row) <= set(states) for row in filled)
    repeat = any(len(set(row)) < length for row in filled) and (len(filled) > 1 or len(set(filled[0])) > 1)
    return length if alike and repeat else 0
