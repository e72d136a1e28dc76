"""The filter language against a slow evaluator, and what it says to a mistake."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference.where import COMPARE, evaluate, render

from fastsam_batch.corpus.schema import masks_schema
from fastsam_batch.corpus.where import MAX_LENGTH, parse_where
from fastsam_batch.errors import InputError

TABLE_TYPES = {
    "image_id": pa.string(),
    "area": pa.int32(),
    "score": pa.float32(),
    "bbox": pa.list_(pa.float32(), 4),
}
MASK_COLUMNS = dict(zip(masks_schema(4).names, masks_schema(4).types, strict=True))
NUMBERS = ["area", "score", "bbox.x", "bbox.width"]

texts = st.text(alphabet="ab%_\\'\"\né", max_size=4)
floats = st.floats(-1e6, 1e6, width=32)
numbers = st.one_of(st.integers(-3, 3), st.integers(-(2**40), 2**40), st.sampled_from([0.9, -1.5, 2.0, 1e3]), floats)
rows = st.fixed_dictionaries(
    {
        "image_id": st.one_of(st.none(), texts),
        "area": st.one_of(st.none(), st.integers(-3, 3), st.integers(-(2**31), 2**31 - 1)),
        "score": st.one_of(st.none(), floats, st.sampled_from([0.9, float("nan")])),
        "bbox": st.lists(floats, min_size=4, max_size=4),
    }
)


def patterns() -> st.SearchStrategy[str]:
    pieces = st.sampled_from(["a", "b", "é", "%", "_", "\\%", "\\_", "\\\\", "'", '"', "\n"])
    return st.lists(pieces, max_size=5).map("".join)


def conditions() -> st.SearchStrategy[tuple]:
    number, sign, negate = st.sampled_from(NUMBERS), st.sampled_from(sorted(COMPARE)), st.booleans()
    return st.one_of(
        st.tuples(st.sampled_from(["compare", "flipped"]), number, sign, numbers),
        st.tuples(st.sampled_from(["compare", "flipped"]), st.just("image_id"), sign, texts),
        st.tuples(st.just("columns"), number, sign, number),
        st.tuples(st.just("null"), st.sampled_from([*NUMBERS, "image_id"]), negate),
        st.tuples(st.just("between"), number, numbers, numbers, negate),
        st.tuples(st.just("in"), number, st.lists(numbers, min_size=1, max_size=4), negate),
        st.tuples(st.just("in"), st.just("image_id"), st.lists(texts, min_size=1, max_size=4), negate),
        st.tuples(st.just("like"), st.just("image_id"), patterns(), negate),
    )


trees = st.recursive(
    conditions(),
    lambda inner: st.one_of(
        st.tuples(st.just("not"), inner),
        st.tuples(st.sampled_from(["and", "or"]), inner, inner, inner),
    ),
    max_leaves=8,
)


@given(trees, st.lists(rows, min_size=1, max_size=12))
@settings(max_examples=40, deadline=None)
def test_files_with_statistics_give_the_same_rows(
    tmp_path_factory: pytest.TempPathFactory, tree: tuple, table_rows: list[dict]
) -> None:
    # Arrow puts the value in place of a column whose minimum is its maximum, NaN beside it or not. A corpus holds no
    # NaN: verify refuses it.
    assume(not any(row["score"] != row["score"] for row in table_rows))
    # Row groups of two: Arrow skips groups by their minimum and maximum, which must not lose a row.
    table = pa.Table.from_pylist(table_rows, pa.schema(list(TABLE_TYPES.items())))
    path = Path(tmp_path_factory.mktemp("where")) / "rows.parquet"
    pq.write_table(table.append_column("row", pa.array(range(len(table)))), path, row_group_size=2)
    found = ds.dataset(path).to_table(columns=["row"], filter=parse_where(render(tree), TABLE_TYPES))["row"]
    assert found.to_pylist() == [i for i, row in enumerate(table.to_pylist()) if evaluate(tree, row) is True]


SOUP = [
    *["and", "or", "not", "in", "between", "like", "is", "null", "(", ")", ",", "=", "<>", "<=", "-", "+"],
    *["area", "score", "image_id", "bbox", "bbox.x", "embedding", "rle", "nothing", "'a%'", '"', "'", "1"],
    *["1e400", ".", "1e3", ";", "é", "\x00", "area > 1", "score < 2", "\\", "9" * 20, "''", "'\\'", "2.5"],
]


@given(st.lists(st.sampled_from(SOUP), max_size=14).map(" ".join) | st.text(max_size=40))
@settings(max_examples=600, deadline=None)
def test_any_text_is_an_expression_or_an_input_error(text: str) -> None:
    table = masks_schema(4).empty_table()
    try:
        expression = parse_where(text, MASK_COLUMNS)
    except InputError as error:
        message = str(error)
    else:
        message = ""
        assert isinstance(expression, pc.Expression)
        assert len(ds.dataset(table).to_table(filter=expression)) == 0  # binds without a complaint
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at character 1: expected a column or a value, found the end"),
        ("score", "at character 6: expected a comparison"),
        ("score >", "at character 8: expected a column or a value, found the end"),
        ("scor > 1", "at character 1: there is no column scor; the columns are area, bbox, bbox.height"),
        ("score > 'a'", "at character 9: score holds numbers but 'a' is text"),
        ("image_id = 3", "at character 12: image_id holds text but 3 is a number"),
        ("image_id = score", "at character 12: image_id holds text but score holds numbers"),
        ("area like 'a'", "at character 11: area holds numbers but 'a' is text"),
        ("image_id like area", "at character 15: expected a quoted text, found area"),
        ("image_id like 'a\\'", "the pattern ends in a lone \\"),
        ("bbox > 1", "for `is null` only; name another column or one of its parts such as bbox.width"),
        ("embedding = 1", "embedding is fixed_size_list"),
        ("area in 1", "at character 9: expected (, found 1"),
        ("area in (1", "at character 11: expected ), found the end"),
        ("area in ()", "at character 10: expected a value, found )"),
        ("area between 1 or 2", "at character 16: expected and, found or"),
        ("area not 1", "at character 10: expected in, between or like, found 1"),
        ("area is 1", "at character 9: expected null, found 1"),
        ("area = null", "at character 8: expected a column or a value, found null"),
        ("1 = 1", "at character 1: one side of a comparison must be a column"),
        ("1 is null", "at character 1: `is null` needs a column before it"),
        ("area > 1 area < 2", "at character 10: expected and, or, or the end, found area"),
        ("(area > 1", "at character 10: expected ), found the end"),
        ("area > - 'a'", "at character 10: expected a number, found 'a'"),
        ("area > 1e999", "at character 8: the number is too large"),
        ("area > 1; drop", "at character 9: expected a name, a number or a quoted text, found ; drop"),
        ("image_id = 'a", "at character 12: expected a name, a number or a quoted text, found 'a"),
        ("image_id = '\ud800'", "the text is not valid Unicode"),
        ("(" * 5000 + "area = 1" + ")" * 5000, "expected at most 64 parentheses"),
        ("area = 1 or " * 20_000 + "area = 1", f"write it in {MAX_LENGTH} or fewer"),
    ],
)
def test_mistakes_are_named(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_where(text, MASK_COLUMNS)
    assert message in str(caught.value)


def test_long_chains_and_many_nots_stay_shallow() -> None:
    table = pa.table({"area": pa.array([1, 2], pa.int32())})
    chain = " or ".join(f"area = {number}" for number in range(2, 6000))
    assert ds.dataset(table).to_table(filter=parse_where(chain, TABLE_TYPES))["area"].to_pylist() == [2]
    nots = "not " * 20_001 + "area = 1"
    assert ds.dataset(table).to_table(filter=parse_where(nots, TABLE_TYPES))["area"].to_pylist() == [2]
