"""The symmetries of the square and the rotations of the cube, as signed permutations of an array's axes.

A row of a table is one element. Its entry for output axis a is +-(b + 1): a step along output axis a is a
step along input axis b, forwards or backwards. With coordinates measured from the centre of the array the
element is the matrix M, M[a, b] = +-1, and acts by (rho(M) z)(p) = z(M^-1 p).
"""

from __future__ import annotations

Table = tuple[tuple[int, ...], ...]

# Axes (row, column), r the quarter turn counter-clockwise as displayed, row 0 on top: 1, r, r^2, r^3.
TURNS: Table = ((1, 2), (-2, 1), (-1, -2), (2, -1))

# The element 4 flip + k is r^k s^flip, s the left-right flip.
SQUARE: Table = (*TURNS, (1, -2), (2, 1), (-1, 2), (-2, -1))

# Axes (depth, row, column). The element 4 c + j is t_c r_z^j with t = (1, r_x, r_x^2, r_x^-1, r_y, r_y^-1),
# the quarter turns about x right (columns), y up (against the rows) and z depth.
CUBE: Table = (
    (1, 2, 3), (1, -3, 2), (1, -2, -3), (1, 3, -2),
    (-2, 1, 3), (3, 1, 2), (2, 1, -3), (-3, 1, -2),
    (-1, -2, 3), (-1, 3, 2), (-1, 2, -3), (-1, -3, -2),
    (2, -1, 3), (-3, -1, 2), (-2, -1, -3), (3, -1, -2),
    (-3, 2, 1), (-2, -3, 1), (3, -2, 1), (2, 3, 1),
    (3, 2, -1), (2, -3, -1), (-3, -2, -1), (-2, 3, -1),
)  # fmt: skip

TABLES: dict[str, Table] = {"turns": TURNS, "square": SQUARE, "cube": CUBE}


def transposed(table: Table) -> Table:
    """The inverse of every element, at the same place.

    >>> transposed(((-2, 1), (1, 2)))
    ((2, -1), (1, 2))
    """
    return tuple(
        tuple(
            next(a + 1 if entry > 0 else -a - 1 for a, entry in enumerate(row) if abs(entry) == b + 1)
            for b in range(len(row))
        )
        for row in table
    )


INVERSES: dict[str, Table] = {kind: transposed(table) for kind, table in TABLES.items()}
