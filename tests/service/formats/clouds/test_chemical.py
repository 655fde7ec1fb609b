"""Chemical XYZ: atoms with their elements, a count and a comment before them."""

from __future__ import annotations

import pytest

from service.errors import BodyTooLarge, InvalidInput, MalformedBody
from tests.service.formats.clouds.builders import read_points

ATOMS = "O 0.0 0.0 0.1\nH 0.7 0.5 -4e-1\nCl -1 2 3\n"
EXPECTED = [[0, 0, 0.1], [0.7, 0.5, -0.4], [-1, 2, 3]]


@pytest.mark.parametrize("comment", ["water", "", "1 2 3", "x y z", "energy=-76.4 # converged"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_coordinates_of_the_atoms_are_read(comment: str, end: str) -> None:
    text = f"3\n{comment}\n{ATOMS}".replace("\n", end)
    assert read_points(text.encode(), "water.xyz").tolist() == EXPECTED
    assert read_points(text.rstrip().encode()).tolist() == EXPECTED


def test_further_columns_and_the_order_of_extended_files_are_known() -> None:
    charges = ATOMS.replace("\n", " 0.4 fixed\n")
    assert read_points(f"3\nwith charges\n{charges}".encode()).tolist() == EXPECTED
    moved = ATOMS.replace("O ", "O 7 9 ").replace("H ", "H 8 9 ").replace("Cl ", "Cl 9 9 ")
    properties = 'Lattice="5 0 0 0 5 0 0 0 5" Properties=species:S:1:id:I:2:pos:R:3:forces:R:0'
    assert read_points(f"3\n{properties}\n{moved}".encode()).tolist() == EXPECTED


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        (f"4\n\n{ATOMS}", MalformedBody, "declares 4 atoms, and 3 follow"),
        (f"2\n\n{ATOMS}", MalformedBody, "declares 2 atoms, and more follow"),
        (f"3\n\n{ATOMS}3\n\n{ATOMS}", InvalidInput, "line 6 begins another frame"),
        (f"0\n\n{ATOMS}", InvalidInput, "0 points"),
        ("2\n\nO 0 0 0\nH 1 0\n", MalformedBody, "cannot be read"),
        (f"999999999999\n\n{ATOMS}", BodyTooLarge, "too many"),
        ("1\n\nO 0 0 1e999\n", InvalidInput, "infinite"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(text: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        read_points(text.encode(), pointer="/source")


def test_atomic_numbers_in_place_of_elements_need_chosen_columns() -> None:
    with pytest.raises(MalformedBody, match="columns="):
        read_points(b"2\nwater\n8 0 0 0\n1 1 0 0\n")
