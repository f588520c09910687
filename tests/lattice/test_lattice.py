"""Lattices: exact nearest points against independent searches, known constants, dither, reduction, and their coding."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from core.bitstream import BitstreamError
from core.entropy import Decoder, Encoder
from core.golay import golay_code
from core.registry import UnknownName
from lattice.points import LATTICES, Lattice, LatticeError, hermite
from lattice.points_coder import Coder
from lattice.reduction import BasisError, Search, lll

SAMPLES = {"z": 40_000, "a2": 40_000, "d4": 40_000, "e8": 40_000, "leech": 1500}


def basis_of(lattice: Lattice) -> np.ndarray:
    return lattice.basis * lattice.frame[:, None]


def distances(lattice: Lattice, x: Tensor) -> Tensor:
    return (x - lattice.quantize(x)).square().sum(-1)


def normal(n: int, dim: int, seed: int = 0, scale: float = 2.0) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)) * scale


@pytest.mark.parametrize("name", LATTICES)
def test_unit_volume_and_points_are_their_own_nearest(name: str) -> None:
    lattice = LATTICES[name]
    assert abs(np.linalg.det(basis_of(lattice))) == pytest.approx(1)
    assert np.array_equal(lattice.basis, np.triu(lattice.basis)) and (np.diag(lattice.basis) > 0).all()
    k = torch.randint(-9, 10, (500, lattice.dim), generator=torch.Generator().manual_seed(0))
    assert torch.equal(lattice.nearest(lattice.vectors(k)), k)
    assert torch.equal(lattice.nearest(lattice.vectors(k, torch.float64)), k)


@pytest.mark.parametrize("name", ["z", "a2", "d4"])
def test_nearest_against_every_point_of_a_box(name: str) -> None:
    lattice = LATTICES[name]
    box = torch.tensor(list(itertools.product(range(-4, 5), repeat=lattice.dim)))
    points, x = lattice.vectors(box), normal(300, lattice.dim, scale=0.4)
    assert torch.allclose(torch.cdist(x, points).amin(1).square(), distances(lattice, x), atol=1e-5)


@pytest.mark.parametrize("name", ["z", "a2", "d4", "e8"])
def test_nearest_against_exact_search_in_a_reduced_basis(name: str) -> None:
    lattice = LATTICES[name]
    reduced, _ = lll(basis_of(lattice))
    x = normal(1500, lattice.dim, seed=1)
    found = Search.of(reduced).nearest(x).double() @ torch.from_numpy(reduced).T
    assert torch.allclose((x - found).square().sum(1).float(), distances(lattice, x), atol=1e-5)


def test_leech_against_all_its_cosets() -> None:
    """The union of 2 x 4,096 translates of 4 D24, and of the same with odd sums, each searched by itself."""
    words = golay_code()
    assert np.bincount(words.sum(1)).nonzero()[0].tolist() == [0, 8, 12, 16, 24]
    assert len(np.unique(words, axis=0)) == 4096
    x = normal(12, 24, seed=2).double().numpy() * 8**0.5
    found = distances(LATTICES["leech"], torch.from_numpy(x / 8**0.5)).numpy()
    for row, distance in zip(x, found, strict=True):
        best = np.inf
        for m in (0, 1):
            rest = (row - m - 2 * words) / 4
            z = np.rint(rest)
            error = rest - z
            wrong = (z.sum(1) + m) % 2 == 1
            extra = 1 - 2 * np.abs(error).max(1)  # (1 - |e|)^2 - e^2 of the coordinate that is cheapest to change
            best = min(best, float(((error**2).sum(1) + wrong * extra).min()) * 16)
        assert distance * 8 == pytest.approx(best, abs=1e-9)


def test_leech_is_even_unimodular_without_roots() -> None:
    basis = LATTICES["leech"].basis
    gram = basis.T @ basis
    assert (gram % 8 == 0).all() and (np.diag(gram) % 16 == 0).all()
    reduced, _ = lll(basis_of(LATTICES["leech"]))
    assert (reduced**2).sum(0).min() == pytest.approx(4)  # a lattice with a vector of norm 2 reduces to one here


@pytest.mark.parametrize("name", LATTICES)
def test_second_moments(name: str) -> None:
    """Monte Carlo within 4 standard errors of the known value, the error being below 0.3 % of it."""
    lattice, n = LATTICES[name], SAMPLES[name]
    torch.manual_seed(3)
    squares = lattice.dither((n,), torch.zeros(1)).square().mean(1)
    mean, error = float(squares.mean()), float(squares.std()) / n**0.5
    known = {"z": 1 / 12, "a2": 0.080188, "d4": 0.076603, "e8": 0.071682, "leech": 0.065771}[name]
    assert error < 0.006 * known and abs(mean - known) < 4 * error
    assert lattice.moment == pytest.approx(known, abs=1e-6)


@pytest.mark.parametrize("name", ["a2", "e8"])
def test_dithered_error_does_not_depend_on_the_vector(name: str) -> None:
    lattice = LATTICES[name]
    torch.manual_seed(0)
    for centre in (0.0, 0.3):
        x = torch.full((20_000, lattice.dim), centre)
        error = lattice.dithered(x) - x
        assert float(error.square().mean()) == pytest.approx(lattice.moment, rel=0.02)
        assert float(error.mean(0).abs().max()) < 0.01
    x = torch.full((2, lattice.dim), 0.2)
    assert torch.equal(lattice.quantize(x) - x, -x), "without dither it is what the vector makes it"


def test_wrong_vectors_and_names_are_refused() -> None:
    with pytest.raises(LatticeError, match="8 dimensions, not 7"):
        LATTICES["e8"].nearest(torch.zeros(3, 7))
    with pytest.raises(UnknownName, match="leech"):
        LATTICES["leach"]
    with pytest.raises(LatticeError, match="span"):
        hermite([[1, 1], [2, 2]])


@pytest.mark.parametrize("dim", [2, 4, 6])
def test_exact_search_of_a_random_basis(dim: int) -> None:
    """Never farther than Babai's point, as near as any of many points around it, and nearer than Babai's somewhere."""
    basis = np.random.default_rng(dim).normal(size=(dim, dim))
    reduced, transform = lll(basis)
    assert abs(round(np.linalg.det(transform))) == 1 and np.allclose(basis @ transform, reduced)
    search, x = Search.of(reduced), normal(400, dim, seed=dim)
    points = torch.from_numpy(reduced).float()

    def error(k: Tensor) -> Tensor:
        return (x - k.float() @ points.T).square().sum(-1)

    exact, plane = search.nearest(x), search.babai(x)
    assert (error(exact) <= error(plane) + 1e-5).all() and (error(exact) < error(plane) - 1e-3).any()
    around = torch.tensor(list(itertools.product((-2, -1, 0, 1, 2) if dim < 6 else (-1, 0, 1), repeat=dim)))
    for shift in around:
        assert (error(exact) <= error(plane + shift) + 1e-5).all()


def test_lll_shortens_a_skewed_basis() -> None:
    basis = np.array([[1.0, 1000.0], [0.0, 1.0]])
    reduced, _ = lll(basis)
    assert np.abs(reduced).max() == pytest.approx(1)
    with pytest.raises(BasisError, match="full rank"):
        lll(np.ones((2, 2)))
    with pytest.raises(BasisError, match="at most 8"):
        Search.of(np.eye(9))


def coded(coder: Coder, points: np.ndarray) -> int:
    """Bytes of points, after checking that they come back."""
    fixed, encoder = coder.fixed(), Encoder()
    fixed.encode(points, encoder)
    payload = encoder.finish()
    assert np.array_equal(fixed.decode(len(points), Decoder(payload)), points)
    assert abs(8 * len(payload) - fixed.bits(points)) < 64
    return len(payload)


@pytest.mark.parametrize("name", LATTICES)
def test_coding_any_points(name: str) -> None:
    """Round trips without counts, with counts, and of points far outside what was counted."""
    lattice = LATTICES[name]
    coder = Coder(2, lattice.basis)
    points = lattice.nearest(normal(300, 2 * lattice.dim).view(300, 2, -1)).numpy()
    before = coded(coder, points)
    coder.count([points[:200], points[200:]])
    assert coded(coder, points) < before
    coded(coder, np.random.default_rng(0).integers(-(2**20), 2**20, points.shape))
    coded(coder, points[:0])


def test_coding_costs_the_entropy_of_the_cell_not_of_the_basis() -> None:
    """At high rate h - log2(volume) bits per vector: cosets and parities of E8 cost what they should."""
    lattice = LATTICES["e8"]
    x = normal(30_000, 8, scale=4.0)
    points = lattice.nearest(x)[:, None].numpy()
    coder = Coder(1, lattice.basis)
    coder.count([points])
    ideal = 4 * np.log2(2 * np.pi * np.e * 16)  # bits of eight normal samples, cells of volume 1
    assert 8 * coded(coder, points) / len(points) == pytest.approx(ideal, abs=0.15)


def test_wide_coordinates_send_low_bits_as_they_are() -> None:
    rng = np.random.default_rng(0)
    points = rng.integers(-50_000, 50_000, (2000, 3, 1))
    coder = Coder(3, np.eye(1, dtype=np.int64))
    coder.count([points])
    assert int(coder.shift.min()) >= 8
    assert 8 * coded(coder, points) / points.size == pytest.approx(np.log2(100_000), abs=0.3)


def test_repeated_points_cost_what_a_codebook_would() -> None:
    """64 dimensions, 20 different vectors: their entropy, not a sum over coordinates."""
    rng = np.random.default_rng(0)
    book = rng.integers(-3, 4, (20, 64, 1))
    points = book[rng.integers(0, 20, 5000)]
    coder = Coder(64, np.eye(1, dtype=np.int64))
    coder.count([points])
    assert 8 * coded(coder, points) / 5000 == pytest.approx(np.log2(20), abs=0.05)


def test_impossible_points_of_a_damaged_stream() -> None:
    lattice = LATTICES["leech"]
    coder = Coder(1, lattice.basis)
    coder.shift.fill_(25)
    coder.common_counts[-1] = 10**6  # hardly any point by number
    payload = np.random.default_rng(0).bytes(4000)
    with pytest.raises(BitstreamError):
        coder.fixed().decode(40, Decoder(payload))
