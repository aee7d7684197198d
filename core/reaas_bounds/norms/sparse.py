"""Norms of sparse matrices: exact for rotations and gathers, close for averages."""

from __future__ import annotations

import math

import numpy as np

from reaas_bounds.graph.sparse import Matrix
from reaas_bounds.norms.matrix import UNIT, gamma

# Products of entries of one Gram matrix, at most: beyond, its row sums are bounded, not computed.
PRODUCTS = 2**26


def sparse_norm(matrix: Matrix) -> float:
    """Upper bound of ``||A||_2`` of a sparse matrix; deterministic.

    Theorem: ``||A||^2 = ||A^T A|| = ||A A^T||``, and the norm of a symmetric matrix is at most its
    largest absolute row sum. So it is exact where columns (or rows) are orthogonal: gathers,
    concatenations, pairs. ``||A||_1 ||A||_inf`` bounds the same: for averages it is as good.
    Rounding of at most gamma_k of the absolute products is added.
    """
    if matrix.nnz == 0:
        return 0.0
    absolute = abs(matrix)
    rows, columns = float(absolute.sum(1).max()), float(absolute.sum(0).max())
    squared = rows * columns * (1 + gamma(max(matrix.shape)))
    for tall, size in ((matrix, absolute), (matrix.T.tocsr(), absolute.T.tocsr())):
        lengths = np.diff(tall.indptr).astype(np.int64)
        if int((lengths**2).sum()) <= PRODUCTS:
            gram = abs(tall.T @ tall).sum(1).max()
            error = gamma(int(lengths.max()) + tall.shape[0]) * (size.T @ size).sum(1).max()
            squared = min(squared, float(gram) + float(error))
    return math.sqrt(squared) * (1 + 8 * UNIT)
