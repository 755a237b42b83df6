"""The analysis of a finished run as one object: what `analyze` writes and the report shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from kinesphere.analysis.bodies import (
    GroupMotion,
    Hinge,
    centroid_distances,
    default_tolerance,
    describe_groups,
    find_hinges,
    merge_into_bodies,
    segment_of_residue,
)
from kinesphere.analysis.ensemble import (
    StructureComponents,
    count_clashes,
    decode_in_chunks,
    errors_along,
    residue_fluctuation,
    sample_images,
    structure_components,
)
from kinesphere.analysis.latent import (
    Clusters,
    LatentComponents,
    Traversal,
    cluster,
    latent_components,
    signal_to_error,
    traverse,
    umap_embedding,
)
from kinesphere.analysis.options import AnalysisSettings
from kinesphere.analysis.populations import MainPopulation, along_axis, deconvolve
from kinesphere.errors import InputError
from kinesphere.runs.finished_run import FinishedRun

ERROR_SAMPLE = 1000
CLASH_SAMPLE = 500
N_STRUCTURE_COMPONENTS = 6


@dataclass(frozen=True)
class MotionComponents:
    """Latent components in the order of the motion they carry.

    `motion_angstrom` is the RMS displacement of the residues between the two ends of each
    traversal; `positions` are the residue centres at every point of each traversal.
    """

    latent: LatentComponents
    signal_to_error: Float[np.ndarray, " k"]
    motion_angstrom: Float[np.ndarray, " k"]
    traversals: tuple[Traversal, ...]
    positions: Float[np.ndarray, "k frames residues 3"]


@dataclass(frozen=True)
class StructureSample:
    """Structures of a sample of the particles and their statistics.

    `motions` are the principal motions; `main_errors_angstrom` belongs to the first of them and to
    the rows `error_rows` of the sample. `clashes` counts for some of the sample, `model_clashes`
    for the input model.
    """

    images: Int[np.ndarray, " m"]
    positions: Float[np.ndarray, "m residues 3"]
    motions: StructureComponents
    error_rows: Int[np.ndarray, " e"]
    main_errors_angstrom: Float[np.ndarray, " e"]
    fluctuation_angstrom: Float[np.ndarray, " residues"]
    clashes: Int[np.ndarray, " c"]
    model_clashes: int

    @property
    def rms_motion_angstrom(self) -> float:
        """RMS displacement from the mean structure over residues and particles."""
        return float(np.sqrt(np.mean(self.fluctuation_angstrom**2)))

    @property
    def main_range_angstrom(self) -> float:
        """Extent of the main motion: 5th to 95th percentile of its score, in Å RMS of the whole
        molecule.
        """
        low, high = np.percentile(self.motions.scores_angstrom[:, 0], [5, 95])
        return float(high - low)

    @property
    def main_error_angstrom(self) -> float:
        """RMS error of one particle's position along the main motion."""
        return float(np.sqrt(np.mean(self.main_errors_angstrom**2)))


@dataclass(frozen=True)
class Bodies:
    """Segments, the bodies that they form, and how these lie to each other."""

    tolerance_angstrom: float
    segment_label: Int[np.ndarray, " residues"]
    body_label: Int[np.ndarray, " residues"]
    segments: tuple[GroupMotion, ...]
    bodies: tuple[GroupMotion, ...]
    hinges: tuple[Hinge, ...]
    pairs: list[tuple[int, int]]
    distances_angstrom: Float[np.ndarray, "m pairs"]


@dataclass(frozen=True)
class Analysis:
    """Everything the analysis found."""

    settings: AnalysisSettings
    n_particles: int
    components: MotionComponents
    clusters: Clusters
    ensemble: StructureSample
    bodies: Bodies
    population: MainPopulation
    umap: Float[np.ndarray, "n 2"] | None


def analyse(run: FinishedRun, settings: AnalysisSettings) -> Analysis:
    """Analyse a finished run.

    Parameters
    ----------
    run
        Its latents, decoder and model.
    settings
        How finely.

    Returns
    -------
    Analysis
        The same run and settings give the same result.

    Raises
    ------
    InputError
        Where the settings make no sense for this run.
    """
    _check(run, settings)
    mean = np.asarray(run.latents.mean, float)
    covariance = np.asarray(run.latents.covariance, float)
    embedding = umap_embedding(mean, settings.seed) if settings.umap else None
    components = follow_components(run, mean, covariance, settings)
    along_first = components.positions[0, -1] - components.positions[0, 0]
    ensemble = sample_ensemble(run, mean, covariance, settings.seed, along_first)
    clusters = cluster(components.latent, settings.clusters, settings.seed)
    return Analysis(
        settings=settings,
        n_particles=len(mean),
        components=components,
        clusters=clusters,
        ensemble=ensemble,
        bodies=find_bodies(run, mean, ensemble.positions, settings.tolerance_angstrom),
        population=find_population(run, mean, ensemble, clusters, settings.seed),
        umap=embedding,
    )


def follow_components(
    run: FinishedRun,
    mean: Float[np.ndarray, "n d"],
    covariance: Float[np.ndarray, "n d d"],
    settings: AnalysisSettings,
) -> MotionComponents:
    """Traverse every latent component and keep those that move the molecule most, the largest
    motion first.

    The variance of a latent says nothing in itself (its scale is the decoder's choice); the Å it
    moves do.
    """
    latent = latent_components(mean, covariance)
    n_residues = run.model.n_residues
    walks = [traverse(latent, k, settings.frames) for k in range(len(latent.directions))]
    decoded = np.stack([decode_in_chunks(run.decode, walk.latents, n_residues) for walk in walks])
    motion = np.sqrt(np.mean(np.sum((decoded[:, -1] - decoded[:, 0]) ** 2, axis=2), axis=1)).astype(
        np.float64
    )
    order = np.argsort(-motion, kind="stable")[: settings.components]
    latent = latent.reordered(order)
    return MotionComponents(
        latent=latent,
        signal_to_error=signal_to_error(latent.scores, latent.score_errors),
        motion_angstrom=motion[order],
        traversals=tuple(walks[k] for k in order),
        positions=decoded[order],
    )


def sample_ensemble(
    run: FinishedRun,
    mean: Float[np.ndarray, "n d"],
    covariance: Float[np.ndarray, "n d d"],
    seed: int,
    forwards: Float[np.ndarray, "residues 3"],
) -> StructureSample:
    """Decode a sample of the particles and find its principal motions, fluctuations and clashes.

    `forwards` is the displacement that counts as positive on the main motion.
    """
    model = run.model
    images = sample_images(len(mean), model.n_residues, seed)
    positions = decode_in_chunks(run.decode, mean[images], model.n_residues)
    motions = structure_components(positions, N_STRUCTURE_COMPONENTS, seed).pointing_along(forwards)
    rows = sample_images(len(images), model.n_residues, seed, limit=ERROR_SAMPLE)
    clash_rows = sample_images(
        len(images), model.n_residues, seed, limit=CLASH_SAMPLE, max_bytes=4e7
    )

    def along_main_motion(z: Float[np.ndarray, "m d"]) -> Float[np.ndarray, " m"]:
        return motions.project(decode_in_chunks(run.decode, z, model.n_residues))[:, 0]

    return StructureSample(
        images=images,
        positions=positions,
        motions=motions,
        error_rows=rows,
        main_errors_angstrom=errors_along(
            along_main_motion, mean[images[rows]], covariance[images[rows]]
        ),
        fluctuation_angstrom=residue_fluctuation(positions),
        clashes=count_clashes(positions[clash_rows], model),
        model_clashes=int(count_clashes(model.centres_angstrom[None], model)[0]),
    )


def find_population(
    run: FinishedRun,
    mean: Float[np.ndarray, "n d"],
    ensemble: StructureSample,
    clusters: Clusters,
    seed: int,
) -> MainPopulation:
    """Find how the molecules spread over the main motion and the clusters, without the noise of
    single images.
    """
    population = deconvolve(run.latents, seed)
    decoded = decode_in_chunks(run.decode, population.nodes, run.model.n_residues)
    centres = np.stack([mean[clusters.label == k].mean(axis=0) for k in range(len(clusters.size))])
    nearest = np.linalg.norm(population.nodes[:, None] - centres, axis=2).argmin(axis=1)
    shares = tuple(
        population.fraction(nearest == k, size / len(mean)) for k, size in enumerate(clusters.size)
    )
    motions = ensemble.motions
    return along_axis(
        population, motions.project(decoded)[:, 0], motions.scores_angstrom[:, 0], shares
    )


def find_bodies(
    run: FinishedRun,
    mean: Float[np.ndarray, "n d"],
    positions: Float[np.ndarray, "m residues 3"],
    tolerance_angstrom: float | None,
) -> Bodies:
    """Group the segments into bodies and measure both against the decoded structure of the median
    latent.
    """
    reference = np.asarray(run.decode(np.median(mean, axis=0, keepdims=True)))[0]
    tolerance = (
        default_tolerance(reference, positions)
        if tolerance_angstrom is None
        else tolerance_angstrom
    )
    segment = segment_of_residue(np.asarray(run.memberships))
    body = merge_into_bodies(reference, positions, segment, tolerance)
    pairs, distances = centroid_distances(positions, body)
    return Bodies(
        tolerance_angstrom=tolerance,
        segment_label=segment,
        body_label=body,
        segments=describe_groups(run.model, reference, positions, segment, body),
        bodies=describe_groups(run.model, reference, positions, body, body),
        hinges=find_hinges(run.model, body),
        pairs=pairs,
        distances_angstrom=distances,
    )


def _check(run: FinishedRun, settings: AnalysisSettings) -> None:
    """Refuse what cannot be analysed, in the words of the command line."""
    minimum = {"components": 1, "frames": 2, "clusters": 1}
    for name, least in minimum.items():
        if getattr(settings, name) < least:
            raise InputError(
                f"--{name}", f"{getattr(settings, name)} is too few", f"Use {least} or more"
            )
    if settings.tolerance_angstrom is not None and settings.tolerance_angstrom < 0:
        raise InputError("--tolerance-angstrom", "a distance cannot be negative", "Use 0 or more")
    mean = np.asarray(run.latents.mean)
    if len(mean) < 2:
        raise InputError(
            run.path / "latents.npz",
            f"holds {len(mean)} particle(s)",
            "An ensemble needs at least two",
        )
    if not (np.isfinite(mean).all() and np.isfinite(run.latents.covariance).all()):
        raise InputError(
            run.path / "latents.npz", "holds values that are not finite", "Repeat the training"
        )
