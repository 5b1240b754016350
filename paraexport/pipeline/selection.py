"""Selects a candidate: rejects int8 candidates that are far less accurate than the best, then times the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from paraexport import targets
from paraexport.findings.graphs import CandidateTimes
from paraexport.model.scores import as_logits
from paraexport.model.spec import Scores
from paraexport.pipeline import candidate_times
from paraexport.pipeline.candidates import BATCH, Candidate, Images
from paraexport.targets.folder import Folder

ALIKE = 2.0
"""Candidates with at most this many times the smallest error count as equally accurate; the fastest of them wins."""
MOST_TO_COMPARE = 256
"""Candidates are compared on at most this many images."""


def most_accurate(candidates: Sequence[Candidate], images: Images, workload: targets.Workload) -> list[Candidate]:
    """Mark int8 candidates as failed if they are far less accurate than the best one."""
    if len(candidates) == 1 or workload.precision != "int8":
        return [*candidates]
    expected = images.logits[images.checked.spread(MOST_TO_COMPARE)]
    batches = [*images.checked.batches(min(BATCH, workload.max_batch), MOST_TO_COMPARE)]
    errors = [logit_error(candidate, batches, expected, workload, images.scores) for candidate in candidates]
    least = min((error for error in errors if error is not None), default=0.0)
    return [
        dataclasses.replace(candidate, failure=f"less accurate: error {error:.2g} of the logits, best {least:.2g}")
        if error is not None and error > ALIKE * least
        else candidate
        for candidate, error in zip(candidates, errors, strict=True)
    ]


def logit_error(
    candidate: Candidate,
    batches: Sequence[NDArray[np.float32]],
    expected: NDArray[np.float32],
    workload: targets.Workload,
    scores: Scores,
) -> float | None:
    """Measure ‖Δ logits‖ / ‖logits‖ against PyTorch; None if the candidate cannot run. Timing then gives the reason."""
    if candidate.failure:
        return None
    try:
        session = targets.get(candidate.target).open_session(Folder(candidate.folder), workload)
        got = np.concatenate([session(images) for images in batches])
    except Exception:  # each runtime has errors of its own
        return None
    reference = as_logits(expected, scores)
    error = float(np.linalg.norm(as_logits(got, scores) - reference) / (np.linalg.norm(reference) or 1.0))
    return error if np.isfinite(error) else float("inf")


def fastest(
    candidates: Sequence[Candidate], workload: targets.Workload
) -> tuple[Candidate, tuple[CandidateTimes, ...]]:
    """Return the fastest candidate on this machine, with the times of all. A single candidate is not timed."""
    if len(candidates) == 1:
        return candidates[0], ()
    ready = [candidate for candidate in candidates if not candidate.failure]
    folders = [(candidate.target, candidate.layout, candidate.folder) for candidate in ready]
    times = candidate_times.time_candidates(folders, workload)
    failed = [
        CandidateTimes(candidate.target, candidate.layout, {}, chosen=False, failure=candidate.failure)
        for candidate in candidates
        if candidate.failure
    ]
    return ready[[entry.chosen for entry in times].index(True)], (*times, *failed)
