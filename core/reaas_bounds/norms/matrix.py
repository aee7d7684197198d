"""Spectral norm of a matrix, proved by a Cholesky factorisation."""

from __future__ import annotations

import math

import scipy.linalg
import torch
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh
from torch import Tensor

UNIT = 2.0**-53  # unit roundoff of float64


def matrix_norm(matrix: Tensor, error: float = 0.0) -> float:
    """Upper bound of ``||M||_2`` for ``matrix`` [m, n] in float64; deterministic.

    See ``gram_norm``, with the Gram matrix of the smaller side.

    Args:
        matrix: computed entries.
        error: bound of ``||M - M_true||_2``, if the entries themselves are rounded.
    """
    tall = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    return gram_norm(tall @ tall.T, tall.shape[1], error)


def gram_norm(gram: Tensor, terms: int, error: float = 0.0) -> float:
    """Upper bound of ``||M||_2`` from the computed ``gram`` = ``M M^T`` [k, k]; deterministic.

    Theorem: with inner products of length K, ``||M||^2 <= ||G|| + gamma_K ||M||_F^2`` and
    ``||M||_F^2 <= tr G / (1 - gamma_K)``; and if the Cholesky factorisation of ``t I - G`` runs to
    completion, ``||G|| <= t + gamma_{k+1}/(1 - gamma_{k+1}) tr(t I - G)`` (Rump, Verification of
    positive definiteness, BIT 2006). ``t`` starts just above a Lanczos estimate, which only
    decides how tight the result is.

    Args:
        gram: computed and symmetric.
        terms: length K of the inner products behind its entries.
        error: bound of ``||M - M_true||_2``, if the entries of M are rounded.
    """
    trace = float(gram.diagonal().sum())
    if trace == 0.0:
        return error
    rounding = gamma(terms) * trace * (1 + 2 * gamma(terms + len(gram)))
    squared = largest_eigenvalue_bound(gram) + rounding
    return (math.sqrt(squared) + error) * (1 + 8 * UNIT)


def eigenvectors(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues [k], ascending, and vectors [k, k] of a symmetric matrix: about, for choices.

    LAPACK's divide and conquer gives up on some matrices with many equal eigenvalues; its QR
    iteration does not. Entries that are not finite count as 0.
    """
    try:
        values, vectors = torch.linalg.eigh(matrix)
    except RuntimeError:  # LinAlgError is one
        finite = matrix.nan_to_num(0.0, 0.0, 0.0).cpu().numpy()
        values, vectors = map(torch.from_numpy, scipy.linalg.eigh(finite, driver="ev"))
    return values.to(matrix), vectors.to(matrix)


def gamma(terms: int, unit: float = UNIT) -> float:
    """Higham's ``gamma_k = k u / (1 - k u)``: relative error of an inner product of k terms."""
    return terms * unit / (1 - terms * unit)


def largest_eigenvalue_bound(gram: Tensor) -> float:
    """A proved upper bound of the largest eigenvalue of the symmetric ``gram`` [k, k].

    That eigenvalue must not be negative.
    """
    side = gram.shape[0]
    slack = 1e-8
    while True:
        limit = _largest_eigenvalue_estimate(gram) * (1 + slack)
        shifted = -gram
        shifted.diagonal().add_(limit)
        info = int(torch.linalg.cholesky_ex(shifted).info)
        if info == 0:
            trace = float(shifted.diagonal().sum())
            return limit + 1.01 * gamma(side + 2) * trace + 4 * UNIT * limit
        slack *= 10


def _largest_eigenvalue_estimate(gram: Tensor) -> float:
    """Lanczos (a lower bound up to rounding); the largest row sum where it does not converge."""
    side = gram.shape[0]
    fallback = float(gram.abs().sum(1).max())
    if side <= 64:
        return max(float(torch.linalg.eigvalsh(gram)[-1]), 0.0) or fallback
    array = gram.numpy()
    operator = LinearOperator(gram.shape, matvec=lambda v: array @ v, dtype=array.dtype)
    start = gram.diagonal().abs().sqrt().numpy()
    try:
        found = eigsh(operator, k=1, v0=start, tol=1e-5, return_eigenvectors=False)
    except ArpackError:
        return fallback
    return float(found[0])
