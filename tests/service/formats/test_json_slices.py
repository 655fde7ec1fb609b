"""JSON text in slices: together they are the text of the whole value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from service.formats.arrays import to_json
from service.formats.json_slices import size, slices

SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=7)
ARRAYS = arrays.arrays(np.float64, SHAPES) | arrays.arrays(np.int64, SHAPES)
SCALARS = st.none() | st.booleans() | st.floats() | st.text(max_size=3) | st.integers(-9, 9)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.lists(SCALARS, max_size=9) | ARRAYS | ARRAYS.map(lambda array: array.T) | SCALARS,
    lambda inner: (
        st.dictionaries(st.text(max_size=3), inner, max_size=3)
        | st.lists(st.dictionaries(st.text(max_size=3), inner, max_size=3), max_size=5)
    ),
    max_leaves=8,
)


@given(VALUES, st.integers(1, 20))
def test_the_slices_together_are_the_text_of_the_value(value: Any, most: int) -> None:
    assert b"".join(slices(value, most)) == to_json(value)


@given(arrays.arrays(np.float64, SHAPES, elements=st.floats(0, 9)), st.integers(1, 20))
def test_a_slice_has_no_more_numbers_than_it_may(value: Any, most: int) -> None:
    assert size(value) == value.size
    assert all(piece.count(b".") <= most for piece in slices({"a": [value]}, most))


@pytest.mark.parametrize("value", [{"a": {1, 2}, "b": [1] * 9}, {1: [1] * 9}])
def test_a_value_without_a_json_form_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        list(slices(value, 4))
