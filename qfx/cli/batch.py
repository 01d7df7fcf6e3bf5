"""``qfx batch``: many conversions, each in a process of its own or on another machine."""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import fcntl
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from qfx.cli.facts import Facts, decibel, size, table
from qfx.cli.job_results import Result, finished, record_failure, run_job
from qfx.cli.jobs import Job, read_jobs
from qfx.cli.options import add_json
from qfx.cli.parser import positive
from qfx.cli.workers import Workers
from qfx.errors import InputError
from qfx.file.atomic import remove_parts

ATTEMPTS = 2
"""How often a job is given to a process before the death of its process counts as the job's failure."""


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("jobs", metavar="JOBS", type=Path, help="a .toml file with a [[job]] for each model")
    parser.add_argument("--workers", metavar="N", type=positive, help="processes (default: one a core)")
    parser.add_argument("--threads", metavar="N", type=positive, help="threads of each (default: cores / workers)")
    parser.add_argument("--again", action="store_true", help="do finished jobs again")
    add_json(parser)


def run(options: argparse.Namespace) -> Facts:
    """Run the command."""
    jobs = read_jobs(options.jobs)
    with _alone(options.jobs):
        for job in jobs:
            remove_parts(job.output)
        results = convert_all(jobs, workers=options.workers, threads=options.threads, again=options.again)
    counts = Counter(result.status for result in results)
    data = {"jobs": [result.as_dict() for result in results], **counts}
    summary = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    return Facts(f"{_table(results)}\n{len(results)} jobs: {summary}", data, status=1 if counts["failed"] else 0)


def convert_all(
    jobs: Sequence[Job],
    executor: concurrent.futures.Executor | None = None,
    *,
    workers: int | None = None,
    threads: int | None = None,
    again: bool = False,
) -> list[Result]:
    """Do all jobs; one that fails stops no other.

    A finished job leaves a record beside its output (``net.qfx.json``) and is not done again while its arguments,
    their files and its output are the same. A job whose process dies is given to another once.

    Args:
        jobs: From :func:`qfx.cli.jobs.read_jobs`.
        executor: Anything with ``submit`` that returns ``concurrent.futures`` futures, such as that of a
            dask.distributed client. The jobs' files must be there under the same paths. Left out: processes here.
        workers: How many of these.
        threads: Of each job; left out, the cores shared out for processes here, and as they are elsewhere.
        again: Do finished jobs again.

    Returns:
        One result a job, in their order.
    """
    digests = {job.name: job.digest() for job in jobs}
    found = {} if again else {j.name: r for j in jobs if (r := finished(j, digests[j.name])) is not None}
    left = [job for job in jobs if job.name not in found]
    if left:
        cores = len(os.sched_getaffinity(0))
        count = min(workers or cores, len(left))
        if executor is None:
            threads = threads or max(1, cores // count)
        with _pool(executor, count) as pool:
            try:
                for result in _results(pool, left, digests, threads):
                    found[result.name] = result
            except KeyboardInterrupt:
                done = sum(r.status != "failed" for r in found.values())
                raise KeyboardInterrupt(f"{done} of {len(jobs)} jobs are done; run it again to go on") from None
    return [found[job.name] for job in jobs]


@contextlib.contextmanager
def _pool(executor: concurrent.futures.Executor | None, count: int) -> Iterator[concurrent.futures.Executor]:
    """The executor, or processes here that end with the block, at once where it ends with an exception."""
    if executor is not None:
        yield executor
        return
    own = Workers(count)
    try:
        yield own
    except BaseException:
        own.shutdown(cancel_futures=True)
        raise
    own.shutdown()


def _results(
    pool: concurrent.futures.Executor, jobs: Sequence[Job], digests: dict[str, str], threads: int | None
) -> Iterator[Result]:
    """The result of each job as it is done."""
    from tqdm import tqdm

    def submit(job: Job) -> concurrent.futures.Future[Result]:
        return pool.submit(run_job, job, digests[job.name], threads)

    attempts: Counter[str] = Counter(job.name for job in jobs)
    running = {submit(job): job for job in jobs}
    progress = tqdm(total=len(jobs), desc="jobs", unit="job", disable=None, leave=False)
    try:
        while running:
            for future in concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED).done:
                job = running.pop(future)
                error = None if future.cancelled() else future.exception()
                if error is None and not future.cancelled():
                    yield future.result()
                elif attempts[job.name] < ATTEMPTS and (again := _submitted(submit, job)) is not None:
                    attempts[job.name] += 1
                    running[again] = job
                    continue
                else:
                    remove_parts(job.output)
                    yield record_failure(job, digests[job.name], _why(error), attempts[job.name])
                progress.update()
    finally:
        progress.close()
        for future in running:
            future.cancel()


def _submitted(submit: Any, job: Job) -> concurrent.futures.Future[Result] | None:
    """The job handed in again; None where the executor takes no more."""
    try:
        future: concurrent.futures.Future[Result] = submit(job)
    except RuntimeError:  # a pool that broke with its process
        return None
    return future


def _why(error: BaseException | None) -> str:
    text = f"{type(error).__name__}: {error}" if error is not None else "it was cancelled"
    return (
        f"The worker failed: {' '.join(text.split())}. Look at its machine's memory and log, and run the batch again."
    )


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """The only batch of these jobs on this machine.

    Raises:
        InputError: Another one runs.
    """
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"Another qfx batch does the jobs of {str(path)!r}.", remedy="Wait until it is done, or stop it."
            ) from error
        except OSError:
            pass  # a file system without locks
        yield


def _table(results: Sequence[Result]) -> str:
    return table(
        ("job", "result", "int8", "float", "SQNR", "before", "after", "seconds", ""), [_row(r) for r in results]
    )


def _row(result: Result) -> list[str]:
    facts = result.facts
    if not facts:
        return [result.name, result.status, "", "", "", "", "", f"{result.seconds:.1f}", result.error or ""]
    ratios = [value for value in facts["sqnr_db"].values() if value is not None]
    sizes = size(facts["bytes_before"]), size(facts["bytes_after"])
    ratio = decibel(min(ratios)) if ratios else ""
    counts = str(facts["int8"]), str(facts["float"])
    return [result.name, result.status, *counts, ratio, *sizes, f"{result.seconds:.1f}", facts["output"]]
