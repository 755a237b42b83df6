"""cryoSPHERE's motion: memberships, rigid bodies, the fast composition against the paper's, and
what is random."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from kinesphere.kernels.composition import compose_all, compose_two
from kinesphere.motion.copies import Copies
from kinesphere.motion.segments import Segmentation, SegmentsMotion, default_n_segments

N_RESIDUES = 200


def chain(n: int = N_RESIDUES, seed: int = 0) -> torch.Tensor:
    """A random walk of 3.8 Å steps, centred."""
    step = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed))
    points = (3.8 * step / step.norm(dim=1, keepdim=True)).cumsum(0)
    return points - points.mean(0)


def one_chain(n: int = N_RESIDUES) -> torch.Tensor:
    return torch.zeros(n, dtype=torch.int64)


def make_motion(
    n_segments: int = 5, latent_dim: int = 2, domains: torch.Tensor | None = None
) -> SegmentsMotion:
    labels = one_chain() if domains is None else domains
    return SegmentsMotion(chain(), labels, latent_dim, n_segments=n_segments).eval()


def prescribe(motion: SegmentsMotion, rotation: torch.Tensor, translation: torch.Tensor) -> None:
    """Make the decoder give these transforms (n_segments, 3) whatever the latent."""
    last = motion.decoder[-1]
    assert isinstance(last, torch.nn.Linear)
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.cat([rotation * motion.radius[:, None], translation], 1).flatten())


def copied_chains(*places: torch.Tensor, families: tuple[int, ...]) -> tuple[torch.Tensor, Copies]:
    """Make chains of the residues at these places of the sequences of their families."""
    numbers = [torch.full((len(place),), number) for number, place in enumerate(places)]
    domains = torch.cat(numbers)
    return domains, Copies(torch.tensor(families)[domains], torch.cat(places))


def two_copies_and_another() -> tuple[torch.Tensor, Copies]:
    """Two copies of a chain of 80, the second without residues 30 to 44, and a chain of 55."""
    whole = torch.arange(80)
    gapped = torch.cat([torch.arange(30), torch.arange(45, 80)])
    return copied_chains(whole, torch.arange(55), gapped, families=(0, 1, 0))


def scrambled(n_segments: int = 8) -> Segmentation:
    """A segmentation as training leaves it: boundaries, widths and weights away from where they
    began."""
    segmentation = Segmentation(one_chain(), n_segments, 20.0)
    with torch.no_grad():
        segmentation.mean.copy_(0.3 * torch.randn(3, n_segments))
    return segmentation.eval()


def test_memberships_of_a_residue_add_up_to_one() -> None:
    membership = scrambled().memberships()
    assert membership.shape == (N_RESIDUES, 8)
    torch.testing.assert_close(membership.sum(1), torch.ones(N_RESIDUES))
    assert bool((membership >= 0).all())


def test_memberships_are_those_of_equation_6() -> None:
    """Softmax of τ times the log density of each weighted Gaussian, −log σ included."""
    segmentation = Segmentation(one_chain(12), 3, 2.0).eval()
    with torch.no_grad():
        segmentation.mean.copy_(
            torch.tensor([[0.2, 0.0, -0.3], [0.1, -0.2, 0.3], [0.5, 0.0, -0.5]])
        )
    centre = 4.0 * (torch.arange(3) + 0.5 + segmentation.mean[0]) - 0.5
    width = 2.0 * (torch.exp(6.0 * torch.tanh(segmentation.mean[1] / 6.0)) + 0.05)
    weight = torch.softmax(segmentation.mean[2], 0)
    density = weight * Normal(centre, width).log_prob(torch.arange(12.0)[:, None]).exp()
    expected = density**2 / (density**2).sum(1, keepdim=True)
    torch.testing.assert_close(segmentation.memberships(), expected)


@pytest.mark.parametrize(("temperature", "least"), [(1.0, 0.0), (20.0, 0.9), (1e4, 0.999)])
def test_boundaries_sharpen_with_temperature(temperature: float, least: float) -> None:
    """At τ → ∞ each residue has one segment, and all segments are equally long."""
    membership = Segmentation(one_chain(), 4, temperature).eval().memberships()
    purity = membership.detach().max(1).values
    assert float(purity.mean()) > least
    assert float(purity.mean()) < 0.9 or temperature > 1.0
    assert membership.argmax(1).unique(return_counts=True)[1].tolist() == [50, 50, 50, 50]


def test_segments_are_contiguous_at_first() -> None:
    assert bool((Segmentation(one_chain(), 7, 20.0).memberships().argmax(1).diff() >= 0).all())


def test_fast_composition_is_the_papers_at_the_papers_temperature() -> None:
    membership = scrambled().double().memberships()
    largest = membership.topk(2, dim=1).indices.sort(dim=1).values
    points, pivots = chain().double(), 20 * torch.randn(8, 3, dtype=torch.float64)
    rotation, translation = 1.5 * torch.randn(4, 8, 3).double(), 10 * torch.randn(4, 8, 3).double()

    def result(fast: bool) -> list[torch.Tensor]:  # noqa: FBT001
        leaves = [t.clone().requires_grad_() for t in (rotation, translation)]
        share = membership.gather(1, largest)
        moved = (
            compose_two(points, share, largest, *leaves, pivots)
            if fast
            else compose_all(points, membership, *leaves, pivots)
        )
        weight = torch.randn(
            moved.shape, generator=torch.Generator().manual_seed(1), dtype=moved.dtype
        )
        return [moved, *torch.autograd.grad((weight * moved).sum(), leaves)]

    for found, exact in zip(result(fast=True), result(fast=False), strict=True):
        assert float((found - exact).detach().abs().max() / exact.detach().abs().max()) < 1e-5


def test_motion_is_the_papers_composition_of_all_memberships() -> None:
    motion, z = make_motion(8).double(), torch.randn(3, 2, dtype=torch.float64)
    last = motion.decoder[-1]
    assert isinstance(last, torch.nn.Linear)
    with torch.no_grad():
        motion.segmentation.mean.copy_(0.3 * torch.randn(3, 8))
        last.bias.copy_(5.0 * torch.randn(48))  # turns of about 20° and shifts of about 5 Å
    membership = motion.segmentation.memberships()
    exact = compose_all(motion.reference, membership, *motion.transforms(z), motion.pivots)
    assert float((motion(z) - exact).detach().abs().max()) < 1e-3
    assert float((exact - motion.reference).detach().norm(dim=-1).mean()) > 3.0


def test_composition_of_two_shares_follows_the_order_of_the_chain() -> None:
    """Rotations do not commute: segment 1 turns first, then segment 2, as in the sequential
    form."""
    points = torch.tensor([[1.0, 2.0, 3.0]])
    rotation = torch.tensor([[[math.pi, 0.0, 0.0], [0.0, 0.0, math.pi]]])
    half = torch.tensor([[0.5, 0.5]])
    moved = compose_two(
        points, half, torch.tensor([[0, 1]]), rotation, torch.zeros(1, 2, 3), torch.zeros(2, 3)
    )
    # by 90° about x: (1, −3, 2); then by 90° about z: (3, 1, 2)
    torch.testing.assert_close(moved[0, 0], torch.tensor([3.0, 1.0, 2.0]), atol=1e-5, rtol=0)


def test_a_segment_turned_by_90_degrees_is_turned_by_90_degrees() -> None:
    motion = make_motion(4)
    rotation, translation = torch.zeros(4, 3), torch.zeros(4, 3)
    rotation[1, 2], translation[1] = math.pi / 2, torch.tensor([5.0, -3.0, 1.0])
    prescribe(motion, rotation, translation)
    moved = motion(torch.randn(2, 2)).detach()
    membership = motion.segmentation.memberships()
    inside, outside = membership[:, 1] > 1 - 1e-6, membership[:, 1] < 1e-6
    assert int(inside.sum()) >= 25
    offset = motion.reference[inside] - motion.pivots[1]
    turned = (
        torch.stack([-offset[:, 1], offset[:, 0], offset[:, 2]], 1)
        + motion.pivots[1]
        + translation[1]
    )
    torch.testing.assert_close(moved[0, inside], turned, atol=1e-3, rtol=0)
    torch.testing.assert_close(moved[0, outside], motion.reference[outside], atol=1e-3, rtol=0)
    torch.testing.assert_close(moved[1], moved[0])


def test_a_segment_moves_as_a_rigid_body() -> None:
    motion = make_motion(4)
    prescribe(motion, torch.randn(4, 3), 10 * torch.randn(4, 3))
    moved = motion(torch.zeros(1, 2)).detach()[0]
    membership = motion.segmentation.memberships()
    for segment in range(4):
        inside = membership[:, segment] > 1 - 1e-7
        before, after = torch.pdist(motion.reference[inside]), torch.pdist(moved[inside])
        torch.testing.assert_close(after, before, atol=2e-3, rtol=0)
    assert (moved - motion.reference).norm(dim=1).mean() > 3.0


def test_atoms_keep_their_geometry_within_a_residue() -> None:
    """Even where two segments meet: an atom gets the transform of its residue."""
    motion = make_motion(6)
    prescribe(motion, torch.randn(6, 3), 10 * torch.randn(6, 3))
    owner = torch.arange(N_RESIDUES).repeat_interleave(4)
    atoms = motion.reference[owner] + 1.5 * torch.randn(4 * N_RESIDUES, 3)
    moved = motion.move(torch.zeros(1, 2), atoms, owner).detach()[0].reshape(N_RESIDUES, 4, 3)
    before = torch.cdist(atoms.reshape(N_RESIDUES, 4, 3), atoms.reshape(N_RESIDUES, 4, 3))
    torch.testing.assert_close(torch.cdist(moved, moved), before, atol=2e-3, rtol=0)
    alone = motion(torch.zeros(1, 2)).detach()[0]
    carried = motion.move(torch.zeros(1, 2), motion.reference[owner], owner).detach()[0]
    torch.testing.assert_close(carried, alone[owner])


@pytest.mark.parametrize("pivot", ["centroid", "origin"])
def test_both_pivots_leave_the_molecule_alone_without_motion(pivot: str) -> None:
    motion = SegmentsMotion(
        chain(),
        one_chain(),
        1,
        n_segments=4,
        pivot=pivot,  # type: ignore[arg-type]
    ).eval()
    prescribe(motion, torch.zeros(4, 3), torch.zeros(4, 3))
    torch.testing.assert_close(
        motion(torch.randn(3, 1)), motion.reference.expand(3, -1, -1), atol=1e-4, rtol=0
    )
    if pivot == "origin":
        assert not motion.pivots.any()
    else:
        quarters = motion.reference.reshape(4, 50, 3).mean(1)
        torch.testing.assert_close(motion.pivots, quarters, atol=1.0, rtol=0)


def test_same_latent_gives_the_same_structure_after_training() -> None:
    """Evaluation decodes at the posterior mean of the segmentation; only training draws from the
    posterior."""
    motion, z = make_motion(), torch.randn(3, 2)
    generator = torch.Generator().manual_seed(3)
    prescribe(motion, torch.randn(5, 3), torch.randn(5, 3))
    first = motion(z)
    motion.resample(generator)
    torch.testing.assert_close(motion(z), first, atol=0, rtol=0)
    motion.train()
    motion.resample(generator)
    drawn = motion(z)
    assert not torch.allclose(drawn, first)
    motion.resample(generator)
    assert not torch.allclose(motion(z), drawn)


def test_draws_follow_the_posterior() -> None:
    segmentation = Segmentation(one_chain(), 6, 20.0).train()
    generator = torch.Generator().manual_seed(0)
    drawn = []
    for _ in range(2000):
        segmentation.resample(generator)
        drawn.append(segmentation.noise.clone())
    noise = torch.stack(drawn)
    assert noise.mean(0).abs().max() < 5 / 2000**0.5
    assert (noise.std(0) - 1).abs().max() < 5 / 4000**0.5


@pytest.mark.parametrize("extreme", [1e3, -1e3])
@pytest.mark.parametrize("row", [0, 1, 2, 3])
@pytest.mark.parametrize("which", ["one", "all"])
def test_no_value_of_a_parameter_overflows(extreme: float, row: int, which: str) -> None:
    """μ, σ and α of the mixture, and the width of their posterior (row 3), as far out as a run
    could go wrong."""
    domains = torch.arange(N_RESIDUES) // 100
    segmentation = Segmentation(domains, 6, 20.0).train()
    target = segmentation.log_std if row == 3 else segmentation.mean
    with torch.no_grad():
        target[slice(None) if row == 3 else row, slice(None) if which == "all" else 2] = extreme
    segmentation.resample(torch.Generator().manual_seed(0))
    membership = segmentation.memberships()
    divergence = segmentation.divergence()
    torch.testing.assert_close(membership.sum(1), torch.ones(N_RESIDUES))
    ((torch.randn_like(membership) * membership).sum() + divergence).backward()
    assert bool(torch.isfinite(divergence))
    for parameter in segmentation.parameters():
        assert parameter.grad is not None
        assert bool(torch.isfinite(parameter.grad).all())


def test_chains_never_share_a_segment() -> None:
    domains = torch.cat([torch.full((n,), label) for n, label in ((120, 4), (30, 7), (50, 1))])
    segmentation = Segmentation(domains, 8, 20.0).train()
    with torch.no_grad():
        segmentation.mean.copy_(5 * torch.randn(3, segmentation.n_segments))
    segmentation.resample(torch.Generator().manual_seed(0))
    membership = segmentation.memberships()
    for label in (4, 7, 1):
        used = membership[domains == label].sum(0) > 0
        assert not membership[domains != label][:, used].any()
    counts = Segmentation(domains, 8, 20.0).memberships().argmax(1)
    assert [len(counts[domains == label].unique()) for label in (4, 7, 1)] == [5, 1, 2]


def test_a_chain_shorter_than_a_segment_gets_one_of_its_own() -> None:
    domains = torch.cat([one_chain(195), torch.arange(1, 6)])
    motion = SegmentsMotion(chain(), domains, 1, n_segments=4).eval()
    assert motion.segmentation.n_segments == 9
    assert bool(torch.isfinite(motion(torch.zeros(1, 1))).all())
    torch.testing.assert_close(motion.segmentation.memberships()[195:].max(1).values, torch.ones(5))


@pytest.mark.parametrize(
    ("n_residues", "n_segments"),
    [(10, 4), (214, 13), (512, 32), (2048, 32), (2111, 32), (2112, 33), (8358, 130)],
)
def test_the_number_of_segments_grows_with_large_molecules(
    n_residues: int, n_segments: int
) -> None:
    assert default_n_segments(n_residues) == n_segments


def test_a_large_complex_has_several_segments_a_chain() -> None:
    sizes = [537, 517, 515, 528, 509, 519, 523, 531] * 2
    domains = torch.arange(16).repeat_interleave(torch.tensor(sizes))
    n_segments = default_n_segments(len(domains))
    segmentation = Segmentation(domains, n_segments, 20.0)
    assert abs(segmentation.n_segments - n_segments) <= 8
    owners = domains[segmentation.nearest_points()]
    assert owners.unique(return_counts=True)[1].min() >= 3


def test_copies_have_their_boundaries_at_the_same_residues() -> None:
    """In training, too, and where one copy lacks a stretch longer than a segment."""
    domains, copies = two_copies_and_another()
    segmentation = Segmentation(domains, 20, 20.0, copies).train()
    with torch.no_grad():
        segmentation.mean.copy_(0.3 * torch.randn_like(segmentation.mean))
    segmentation.resample(torch.Generator().manual_seed(0))
    membership = segmentation.memberships()
    one, _, other = (membership[domains == label] for label in (0, 1, 2))
    assert [int((part.sum(0) > 0).sum()) for part in (one, other)] == [7, 7]
    assert not bool(((one.sum(0) > 0) & (other.sum(0) > 0)).any())
    resolved = copies.place[domains == 2]
    assert torch.equal(one[resolved][:, :7], other[:, -7:])
    share, segment = segmentation.two_largest()
    torch.testing.assert_close(share, membership.gather(1, segment))


def test_copies_learn_one_set_of_parameters() -> None:
    """The gradient of a segment's boundaries is the sum of those of its copies."""
    domains, copies = two_copies_and_another()
    shared = Segmentation(domains, 20, 20.0, copies).eval()
    assert (shared.n_segments, shared.mean.shape) == (20 - 1, (3, 7 + 5))
    assert shared.component.tolist() == [*range(12), *range(7)]
    weight = torch.randn(shared.memberships().shape)

    def gradient(rows: torch.Tensor) -> torch.Tensor:
        loss = (weight * shared.memberships())[rows].sum()
        return torch.autograd.grad(loss, shared.mean)[0]

    parts = [gradient(domains == label) for label in (0, 1, 2)]
    assert all(float(part[:, :7].abs().max()) > 0.01 for part in (parts[0], parts[2]))
    torch.testing.assert_close(gradient(domains >= 0), sum(parts), atol=1e-4, rtol=1e-4)


def test_what_copies_share_costs_once() -> None:
    domains, copies = copied_chains(torch.arange(50), torch.arange(50), families=(0, 0))
    shared = Segmentation(domains, 8, 20.0, copies)
    alone = Segmentation(domains, 8, 20.0)
    torch.testing.assert_close(2 * shared.divergence(), alone.divergence())


def test_copies_begin_as_chains_that_share_nothing() -> None:
    domains, copies = copied_chains(*3 * [torch.arange(50)], families=(0, 0, 0))
    shared = Segmentation(domains, 9, 20.0, copies)
    alone = Segmentation(domains, 9, 20.0)
    torch.testing.assert_close(shared.memberships(), alone.memberships())


def test_segments_of_copies_move_by_themselves() -> None:
    domains, copies = copied_chains(torch.arange(100), torch.arange(100), families=(0, 0))
    motion = SegmentsMotion(chain(), domains, 1, copies=copies, n_segments=4).eval()
    translation = torch.zeros(4, 3)
    translation[2:, 0] = 10.0
    prescribe(motion, torch.zeros(4, 3), translation)
    shift = (motion(torch.zeros(1, 1)) - motion.reference).detach()[0, :, 0]
    torch.testing.assert_close(shift, 10.0 * (domains == 1), atol=1e-4, rtol=0)


def test_a_segment_that_a_copy_has_no_residue_of_turns_about_the_end_of_the_gap() -> None:
    gapped = torch.cat([torch.arange(40), torch.arange(60, 100)])
    domains, copies = copied_chains(torch.arange(100), gapped, families=(0, 0))
    points = chain(180)
    motion = SegmentsMotion(points, domains, 1, copies=copies, n_segments=40).eval()
    held = motion.memberships().sum(0)
    empty = (held < 1e-6).nonzero()[:, 0]
    assert len(empty) >= 2
    ends = points[[139, 140]]
    assert float(torch.cdist(motion.pivots[empty], ends).min(1).values.max()) == 0.0
    assert bool((motion.radius[empty] == 5.0).all())
    assert bool(torch.isfinite(motion(torch.randn(2, 1))).all())


def test_chains_that_are_not_alike_are_untouched() -> None:
    """Parameters, draws and memberships are those of a molecule about which nothing is known."""
    domains = torch.cat([torch.full((n,), label) for n, label in ((120, 4), (30, 7), (50, 1))])
    plain = Segmentation(domains, 8, 20.0).train()
    told = Segmentation(domains, 8, 20.0, Copies.none(domains)).train()
    shapes = {name: tuple(tensor.shape) for name, tensor in plain.state_dict().items()}
    assert shapes == {
        "mean": (3, 8),
        "log_std": (3, 8),
        "index": (N_RESIDUES,),
        "start": (8,),
        "spacing": (8,),
        "allowed": (N_RESIDUES, 8),
        "noise": (3, 8),
    }
    assert torch.equal(plain.index, torch.arange(float(N_RESIDUES)))
    start = [24.0 * m + 11.5 for m in range(5)] + [134.5, 162.0, 187.0]
    torch.testing.assert_close(plain.start, torch.tensor(start), atol=0, rtol=0)
    for one in (plain, told):
        one.resample(torch.Generator().manual_seed(0))
    assert torch.equal(plain.memberships(), told.memberships())
    told.load_state_dict(plain.state_dict())


def test_a_run_from_before_copies_shared_boundaries_keeps_its_own() -> None:
    domains, copies = copied_chains(torch.arange(100), torch.arange(100), families=(0, 0))
    before = SegmentsMotion(chain(), domains, 1, n_segments=6)
    with torch.no_grad():
        before.segmentation.mean.copy_(0.3 * torch.randn(3, 6))
    now = SegmentsMotion(chain(), domains, 1, copies=copies, n_segments=6)
    optimiser = torch.optim.Adam(now.structural_parameters())
    assert now.segmentation.mean.shape == (3, 3)
    now.load_state_dict(before.state_dict())
    z = torch.randn(3, 1)
    assert torch.equal(now.eval()(z), before.eval()(z))
    now(z).square().sum().backward()
    optimiser.step()
    assert not torch.equal(now.segmentation.mean, before.segmentation.mean)


def test_divergence_is_the_gaussians() -> None:
    segmentation = scrambled()
    with torch.no_grad():
        segmentation.log_std.copy_(torch.randn(3, 8))
    std = (6.0 * torch.tanh(segmentation.log_std / 6.0)).exp()
    expected = kl_divergence(Normal(segmentation.mean, std), Normal(0.0, 1.0)).sum()
    torch.testing.assert_close(segmentation.divergence(), expected)


def test_motion_is_differentiable_in_all_it_learns() -> None:
    motion = make_motion().train()
    motion.resample(torch.Generator().manual_seed(0))
    (motion(torch.randn(4, 2)) * torch.randn(4, N_RESIDUES, 3)).sum().backward()
    for name, parameter in motion.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
        assert float(parameter.grad.abs().max()) > 0, name
    assert set(motion.structural_parameters()) == {
        motion.segmentation.mean,
        motion.segmentation.log_std,
    }


def test_gradient_at_rest_is_finite_and_that_of_a_small_rotation() -> None:
    """Rodrigues' formula divides by the angle; at no rotation the derivative is ω × x."""
    rotation = torch.zeros(1, 1, 3, requires_grad=True)
    point = torch.tensor([[1.0, 2.0, 3.0]])
    share, segment = torch.ones(1, 1), torch.zeros(1, 1, dtype=torch.int64)
    moved = compose_two(point, share, segment, rotation, torch.zeros(1, 1, 3), torch.zeros(1, 3))
    (gradient,) = torch.autograd.grad(moved[0, 0, 0], rotation)
    torch.testing.assert_close(gradient[0, 0], torch.tensor([0.0, 3.0, -2.0]))


def test_states_move_one_set_of_points_after_another_as_each_alone() -> None:
    motion, z = make_motion(), torch.randn(6, 2)
    owner, rows = torch.randint(N_RESIDUES, (50,)), torch.tensor([4, 1])
    beads = motion.reference[owner] + torch.randn(50, 3)
    parameters = list(motion.parameters())
    states = motion.states(z)
    together = states.move(beads, owner), states[rows].move_reference()
    alone = motion.move(z, beads, owner), motion(z[rows])
    found = []
    for beads_moved, residues_moved in (together, alone):
        torch.testing.assert_close(beads_moved, alone[0])
        torch.testing.assert_close(residues_moved, alone[1])
        loss = beads_moved.square().sum() + residues_moved.square().sum()
        found.append(torch.autograd.grad(loss, parameters, materialize_grads=True))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))
