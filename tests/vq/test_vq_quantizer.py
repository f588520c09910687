"""Quantisers: one contract for all, laws of each, and vector-quantize-pytorch as an oracle where it has the same."""

from __future__ import annotations

import multiprocessing
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from core.registry import UnknownName
from vq import search
from vq.search import nearest
from vq.vqvae import quantizers as q
from vq.vqvae.quantizer import Quantizer, QuantizerError, rotated, usage
from vq.vqvae.quantizers.learned import YOUNG, kmeans

DIM = 8
MAKERS: dict[str, Callable[[], Quantizer]] = {
    "gradient": lambda: q.VectorQuantizer(DIM, 16),
    "gradient_revived": lambda: q.VectorQuantizer(DIM, 16, init="kmeans", revive=0.1),
    "cosine": lambda: q.VectorQuantizer(DIM, 16, init="kmeans", cosine=True),
    "low_dim": lambda: q.Projected(DIM, q.VectorQuantizer(2, 16, init="kmeans")),
    "ema": lambda: q.EMAQuantizer(DIM, 16, init="kmeans", revive=0.1),
    "rotation": lambda: q.EMAQuantizer(DIM, 16, init="kmeans", rotation=True),
    "entropy": lambda: q.EntropyConstrainedQuantizer(DIM, 16, rate_weight=0.3),
    "simvq": lambda: q.SimVQ(DIM, 16),
    "residual": lambda: q.ResidualQuantizer([q.EMAQuantizer(DIM, 4, init="kmeans") for _ in range(3)], dropout=True),
    "product": lambda: q.ProductQuantizer([q.EMAQuantizer(DIM // 2, 4, init="kmeans") for _ in range(2)]),
    "fsq": lambda: q.Projected(DIM, q.FSQ((8, 6, 5))),
    "lfq": lambda: q.Projected(DIM, q.LFQ(6)),
    "ifsq": lambda: q.Projected(DIM, q.FSQ((8, 6, 5), slope=0.8)),
    "rfsq": lambda: q.Projected(DIM, q.ResidualQuantizer([q.Standardised(q.FSQ((3, 3))) for _ in range(3)], True)),
    "bsq": lambda: q.Projected(DIM, q.BSQ(6)),
    "gsq": lambda: q.Projected(DIM, q.GroupedSpherical(3, 2, 4)),
    "leech_sq": lambda: q.Projected(DIM, q.LeechSpherical()),
}


def made(name: str, seed: int = 0) -> Quantizer:
    torch.manual_seed(seed)
    return MAKERS[name]()


def rows(n: int = 200, dim: int = DIM, seed: int = 1) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def oracle() -> Any:
    return pytest.importorskip("vector_quantize_pytorch", reason="the oracle is a test dependency")


@pytest.mark.parametrize("name", MAKERS)
def test_contract(name: str) -> None:
    quantizer = made(name)
    z = rows(60).view(3, 4, 5, DIM).requires_grad_()
    for _ in range(3):
        out = quantizer(z)
    (out.quantized.square().sum() + out.loss).backward()
    assert out.quantized.shape == z.shape and out.codes.dtype == torch.int64 and out.loss.ndim == 0
    assert z.grad is not None and torch.isfinite(z.grad).all() and z.grad.abs().sum() > 0
    quantizer.eval()
    state = {k: v.clone() for k, v in quantizer.state_dict().items()}
    out = quantizer(z)
    assert out.codes.shape == (3, 4, 5, len(quantizer.codebook_sizes))
    for book, size in enumerate(quantizer.codebook_sizes):
        assert out.codes[..., book].min() >= 0 and out.codes[..., book].max() < size
        assert 1 < out.stats["perplexity"][book] <= out.stats["used"][book] + 1e-3
    torch.testing.assert_close(quantizer.lookup(out.codes), out.quantized.detach(), rtol=1e-5, atol=1e-5)
    assert all(torch.equal(v, state[k]) for k, v in quantizer.state_dict().items()), "using it changes nothing"


@pytest.mark.parametrize(
    "name", ["gradient", "cosine", "ema", "simvq", "product", "residual", "fsq", "lfq", "bsq", "gsq"]
)
def test_indices_to_codes_and_back(name: str) -> None:
    """The vectors of all codes are coded as these codes; each further residual stage comes nearer."""
    quantizer = made(name)
    quantizer(rows())
    inner = (quantizer.inner if isinstance(quantizer, q.Projected) else quantizer).eval()
    if name == "residual":
        codes, left = inner(rows(50)).codes, [float(rows(50).square().sum())]
        for used in (1, 2, 3):
            left.append(float((rows(50) - inner.lookup(codes[:, :used])).square().sum()))
        assert left[0] > left[1] > left[2] > left[3]
        return
    sizes = inner.codebook_sizes
    codes = torch.cartesian_prod(*(torch.arange(s) for s in sizes)).view(-1, len(sizes))
    vectors = inner.lookup(codes)
    if name == "fsq":  # its vectors are values after the bounding function, here undone
        levels = torch.tensor(inner.levels)
        half, even = (levels - 1) * 1.001 / 2, (levels % 2 == 0) * 0.5
        vectors = torch.atanh((vectors * (levels // 2) + even) / half) - torch.atanh(even / half)
    assert torch.equal(inner(vectors).codes, codes)


@pytest.mark.parametrize("name", MAKERS)
def test_bad_input_is_one_sentence(name: str) -> None:
    quantizer = made(name).eval()
    for bad in (torch.full((2, DIM), torch.nan), torch.full((2, DIM), torch.inf), torch.zeros(2, DIM + 1)):
        with pytest.raises(QuantizerError, match=r"finite|dimensions"):
            quantizer(bad)
    with pytest.raises(QuantizerError, match="outside"):
        quantizer.lookup(torch.full((1, len(quantizer.codebook_sizes)), quantizer.codebook_sizes[0]))
    with pytest.raises(QuantizerError, match="integers"):
        quantizer.lookup(torch.zeros(1, len(quantizer.codebook_sizes)))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: q.VectorQuantizer(8, 1), "codebook of 1 codes"),
        (lambda: q.EMAQuantizer(8, 0), "codebook of 0 codes"),
        (lambda: q.FSQ((8, 1)), "at least 2"),
        (lambda: q.FSQ(()), "at least 2"),
        (lambda: q.LFQ(0), "at least 1 bit"),
        (lambda: q.BSQ(0), "at least 1 bit"),
        (lambda: q.FSQ((3,), slope=0.0), "above 0"),
        (lambda: q.GroupedSpherical(2, 1, 4), "at least 2 dimensions"),
        (lambda: q.ProductQuantizer.part(64, 5), "64 dimensions cannot be shared by 5 books"),
        (lambda: q.ResidualQuantizer([]), "one or more stages"),
        (lambda: q.ProductQuantizer([q.SimVQ(4, 4), q.SimVQ(2, 4)]), "one dimension"),
    ],
)
def test_impossible_quantisers(make: Callable[[], object], words: str) -> None:
    with pytest.raises(QuantizerError, match=words):
        make()


def test_an_unknown_start_is_answered() -> None:
    with pytest.raises(UnknownName, match="kmeans"):
        q.VectorQuantizer(8, 4, init="kmean")


@pytest.mark.parametrize("size", [2, 100, 129, 512, 1000])
def test_nearest_is_exhaustive(size: int) -> None:
    z, codebook = rows(3000, 5).double(), rows(size, 5, seed=2).double()
    bias = torch.rand(size, generator=torch.Generator().manual_seed(3)).double()
    scores = torch.cdist(z, codebook).square()
    assert torch.equal(nearest(z, codebook), scores.argmin(1))
    assert torch.equal(nearest(z, codebook, bias), (scores + bias).argmin(1))
    assert torch.equal(nearest(codebook, torch.cat([codebook, codebook])), torch.arange(size)), "ties: the lowest"


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("size", [40, 300])
def test_nearest_is_exact_in_float32(monkeypatch: pytest.MonkeyPatch, packed: bool, size: int) -> None:
    """Codes that rounding cannot tell apart are told apart: the codes of float64, of equal ones the lowest."""
    if not packed:
        monkeypatch.setattr(search, "packs", lambda weight: False)
    few = rows(size // 4, 16, seed=2) + 10
    codebook = torch.cat([few, few * (1 + 3e-7), few, few * (1 - 2e-7)])  # nearly equal and equal ones
    z, bias = rows(800, 16) + 10, torch.rand(size, generator=torch.Generator().manual_seed(3)) * 1e-6
    for added in (None, bias):
        exact = (z.double()[:, None] - codebook.double()).square().sum(2) + (0 if added is None else added)
        naive = (codebook.square().sum(1) + (0 if added is None else added) - 2 * z @ codebook.t()).argmin(1)
        found = nearest(z, codebook, added)
        loss = exact.gather(1, found[:, None])[:, 0] - exact.amin(1)
        assert loss.max() < 1e-11 and not torch.equal(naive, found)
        assert added is not None or not ((found >= size // 2) & (found < size * 3 // 4)).any(), "the earlier twin"


@pytest.mark.parametrize("packed", [True, False])
def test_nearest_needs_little_memory(monkeypatch: pytest.MonkeyPatch, packed: bool) -> None:
    """Scores of 4 MB at a time, not 20,000 x 2048 of them (164 MB), and without oneDNN in one buffer."""
    seen: list[tuple[int, int]] = []
    finish = search._two_best

    def spy(scores: Tensor, block: int) -> tuple[Tensor, Tensor]:
        seen.append((scores.numel(), scores.data_ptr()))
        return finish(scores, block)

    monkeypatch.setattr(search, "_two_best", spy)
    if not packed:
        monkeypatch.setattr(search, "packs", lambda weight: False)
    nearest(rows(20_000, 4), rows(2048, 4))
    assert len(seen) == 40 and max(count for count, _ in seen) == 2**20
    assert packed or len({place for _, place in seen}) == 1


def test_rotation_takes_z_to_its_vector() -> None:
    z, target = rows(20).requires_grad_(), rows(20, seed=5)
    out = rotated(z, target)
    torch.testing.assert_close(out, target, rtol=1e-4, atol=1e-5)
    (grad,) = torch.autograd.grad(out, z, target)  # R' q, scaled: along z, with length |q|**2 / |z|
    along = (
        torch.nn.functional.normalize(z.detach(), dim=1) * (target.square().sum(1) / z.detach().norm(dim=1))[:, None]
    )
    torch.testing.assert_close(grad, along, rtol=1e-3, atol=1e-4)
    theirs = pytest.importorskip("vector_quantize_pytorch.vector_quantize_pytorch").rotate_to(z, target)
    (other,) = torch.autograd.grad(theirs, z, rows(20, seed=6))
    (mine,) = torch.autograd.grad(rotated(z, target), z, rows(20, seed=6))
    torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-4)


def test_ema_step_against_the_oracle() -> None:
    theirs = oracle().VectorQuantize(DIM, 16, decay=0.99, commitment_weight=0.25, rotation_trick=False)
    mine = q.EMAQuantizer(DIM, 16, init="uniform")
    book = rows(16, seed=7)
    mine.codebook.copy_(book)
    mine.sums.copy_(book)
    theirs._codebook.embed.data.copy_(book[None])
    theirs._codebook.embed_avg.data.copy_(book[None])
    for step in range(3):
        z = rows(100, seed=step)
        quantized, codes, loss = theirs(z[None])
        out = mine(z)
        assert torch.equal(out.codes[:, 0], codes[0])
        torch.testing.assert_close(out.quantized, quantized[0])
        torch.testing.assert_close(out.loss, loss.view(()))
        torch.testing.assert_close(mine.codebook, theirs._codebook.embed[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("levels", [(8, 6, 5), (5, 5, 3), (7, 5, 5, 5)])
def test_fsq_against_the_oracle(levels: tuple[int, ...]) -> None:
    theirs, mine = oracle().FSQ(list(levels)), q.FSQ(levels)
    z = 3 * rows(500, len(levels))
    quantized, indices = theirs(z[None])
    out = mine(z)
    torch.testing.assert_close(out.quantized, quantized[0], rtol=1e-5, atol=1e-6)
    assert torch.equal(mine.index(out.codes), indices[0].long())
    torch.testing.assert_close(mine.lookup(out.codes), theirs.indices_to_codes(indices)[0], rtol=1e-5, atol=1e-6)


def test_simvq_and_lfq_against_the_oracle() -> None:
    z = rows(100)
    theirs, mine = oracle().SimVQ(DIM, 16, rotation_trick=False), q.SimVQ(DIM, 16)
    mine.codebook.copy_(theirs.frozen_codebook)
    mine.map.weight.data.copy_(theirs.code_transform.weight)
    quantized, codes, loss = theirs(z[None])
    out = mine(z)
    assert torch.equal(out.codes[:, 0], codes[0])
    torch.testing.assert_close(out.loss, loss)
    torch.testing.assert_close(out.quantized, quantized[0])
    other = oracle().LFQ(codebook_size=2**DIM, dim=DIM).eval()
    quantized, codes, _ = other(z[None])
    signs = q.LFQ(DIM).eval()(z)
    assert torch.equal(signs.quantized, quantized[0])
    assert np.array_equal([int(f"{c:08b}"[::-1], 2) for c in signs.codes[:, 0].tolist()], codes[0]), (
        "their bits reversed"
    )


def test_residual_against_the_oracle() -> None:
    theirs = oracle().ResidualVQ(dim=DIM, num_quantizers=3, codebook_size=8).eval()
    mine = q.ResidualQuantizer([q.EMAQuantizer(DIM, 8, init="uniform") for _ in range(3)]).eval()
    for layer, stage in zip(theirs.layers, mine.stages, strict=True):
        layer._codebook.embed.data.copy_(rows(8, seed=hash(layer) % 1000)[None])
        stage.codebook.copy_(layer._codebook.embed[0])
    quantized, codes, _ = theirs(rows(100)[None])
    out = mine(rows(100))
    assert torch.equal(out.codes, codes[0])
    torch.testing.assert_close(out.quantized, quantized[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_lfq_entropy_loss(scale: float) -> None:
    """It is that of the bits' probabilities, and decided bits (probabilities of exactly 0 and 1) do not break it."""
    lfq, z = q.LFQ(4, commitment=0.0, entropy=1.0), (scale * rows(50, 4)).requires_grad_()
    loss = lfq(z).loss
    (grad,) = torch.autograd.grad(loss, z)
    p = torch.sigmoid(4 * z.detach().double())
    entropy = lambda p: -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)).mean()  # noqa: E731
    assert torch.isfinite(grad).all() and float(loss) == pytest.approx(float(entropy(p) - entropy(p.mean(0))), abs=1e-4)


def test_fsq_never_makes_its_codebook() -> None:
    """8**20 codes, which would be 10**18 vectors; the oracle's constructor tries to make them."""
    tracemalloc.start()
    fsq = q.FSQ((8,) * 20)
    out = fsq(rows(10, 20))
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()
    assert fsq.codebook_sizes == (4096,) * 5 and torch.equal(fsq.pack(fsq.unpack(out.codes)), out.codes)
    assert fsq.index(out.codes).max() > 2**50
    with pytest.raises(QuantizerError, match="64-bit"):
        q.FSQ((8,) * 21).index(q.FSQ((8,) * 21)(rows(2, 21)).codes)


def test_dead_codes_are_revived_with_their_state() -> None:
    quantizer = q.EMAQuantizer(DIM, 16, init="uniform", revive=0.2, decay=0.5)
    quantizer.codebook[8:] = 1e3
    quantizer.sums[8:] = 1e3
    for step in range(20):
        quantizer(rows(400, seed=step))
    assert quantizer(rows(400)).stats["used"] == 16
    torch.testing.assert_close(quantizer.codebook, quantizer.sums / quantizer.uses[:, None], rtol=1e-3, atol=1e-3)
    assert quantizer.codebook.abs().max() < 10 and quantizer.uses.min() > 1


def test_kmeans_start() -> None:
    centres = torch.tensor([[0.0, 0], [10, 0], [0, 10], [10, 10]])
    z = centres.repeat(100, 1) + 0.1 * rows(400, 2)
    torch.manual_seed(0)  # one start in six ends with a centre between two clusters, as Lloyd's iteration may
    quantizer = q.EMAQuantizer(2, 4, init="kmeans", revive=0.1)
    for _ in range(30):
        quantizer(z)
    found = quantizer.codebook[quantizer.codebook.round().sum(1).argsort()]
    assert torch.cdist(centres, found).amin(1).max() < 0.5
    assert kmeans(rows(3), 10).shape == (10, DIM), "fewer vectors than codes"


def test_entropy_constraint_trades_rate_for_distance() -> None:
    entropies, errors = [], []
    for weight in (0.0, 0.5, 2.0):
        torch.manual_seed(0)
        quantizer = q.EntropyConstrainedQuantizer(2, 32, rate_weight=weight, decay=0.9)
        for step in range(60):
            quantizer(rows(500, 2, seed=step))
        out = quantizer.eval()(rows(2000, 2))
        entropies.append(float(out.stats["perplexity"].log2()))
        errors.append(float((out.quantized - rows(2000, 2)).square().mean()))
    assert entropies[0] > entropies[1] + 0.5 > entropies[2] + 1 and errors[0] < errors[1] < errors[2]


def test_usage_statistics() -> None:
    stats = usage(torch.tensor([[0, 1], [0, 2], [1, 1], [1, 2]]), (4, 3))
    assert stats["perplexity"].tolist() == pytest.approx([2, 2]) and stats["used"].tolist() == [2, 2]


def train_rank(rank: int, folder: Path) -> None:
    """One of two processes that train three quantisers on different vectors."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    torch.manual_seed(100 + rank)  # ranks draw differently, as in training
    stages = [q.EMAQuantizer(4, 8, init="kmeans", revive=0.5) for _ in range(3)]
    trained = (
        q.ResidualQuantizer(stages, dropout=True),
        q.VectorQuantizer(4, 8, init="kmeans", revive=0.5),
        q.EntropyConstrainedQuantizer(4, 8, rate_weight=0.1),
    )
    for _ in range(8):
        z = torch.randn(50, 4) * (1 + rank)
        for quantizer in trained:
            quantizer(z)
    torch.save([quantizer.state_dict() for quantizer in trained], folder / f"{rank}.pt")


def test_codebooks_are_equal_on_all_ranks(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")  # imports torch once
    ranks = [context.Process(target=train_rank, args=(rank, tmp_path)) for rank in (0, 1)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
    assert [process.exitcode for process in ranks] == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    for mine, theirs in zip(first, second, strict=True):
        assert all(torch.equal(value, theirs[name]) for name, value in mine.items())
    expected = 100 * (1 - (1 - YOUNG) * 0.99**8)  # the moving average of 100 vectors, those of both ranks
    assert float(first[2]["uses"].sum()) == pytest.approx(expected)
