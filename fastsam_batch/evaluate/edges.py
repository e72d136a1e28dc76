"""Edge maps of a folder scored against human segmentations, images in parallel processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor

from fastsam_batch.errors import InputError
from fastsam_batch.evaluate.edge_files import EdgeFiles, read_edge_map, read_truth
from fastsam_batch.evaluate.edge_scores import EdgeCounts, count_edges
from fastsam_batch.threads import available_cores

Progress = Callable[[int, int], None]


def count_folder(
    files: Sequence[EdgeFiles],
    *,
    max_distance: float,
    workers: int | None,
    progress: Progress | None,
) -> list[EdgeCounts]:
    """Counts of every image, in the order given; `workers` processes, for None as many as this one's cores.

    `progress` is called with the images done and their number. Raises InputError for a file that cannot be read.
    """
    workers = min(workers or available_cores(), len(files))
    tasks = [(each, max_distance) for each in files]
    if workers <= 1:
        return _collected(map(_count_file, tasks), len(files), progress)
    # A fresh process each: the parent may hold threads (torch, Arrow) that do not survive a fork.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        return _collected(pool.map(_count_file, tasks), len(files), progress)


def _count_file(task: tuple[EdgeFiles, float]) -> EdgeCounts:
    """Raises InputError besides where an edge map's size is not that of the segmentations."""
    files, max_distance = task
    edges, truths = read_edge_map(files.edges), read_truth(files.truth)
    if edges.shape != truths[0].shape:
        raise InputError(
            f"{files.edges}: is {edges.shape[1]} x {edges.shape[0]} pixels, but the segmentations in {files.truth} are "
            f"{truths[0].shape[1]} x {truths[0].shape[0]}; make edge maps of the photographs' own size"
        )
    return count_edges(files.image, edges, truths, max_distance)


def _collected(results: Iterable[EdgeCounts], total: int, progress: Progress | None) -> list[EdgeCounts]:
    collected = []
    for counts in results:
        collected.append(counts)
        if progress is not None:
            progress(len(collected), total)
    return collected
