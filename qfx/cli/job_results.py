"""What becomes of a job: done in some process, kept in a record beside its output, recognized by a later run."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from qfx.cli.facts import as_json, finite
from qfx.cli.jobs import Job, file_digest
from qfx.errors import QfxError
from qfx.file.atomic import write_atomically

_FORMAT = 1


@dataclass(frozen=True)
class Result:
    """How a job went.

    Attributes:
        name: The job's.
        status: ``"done"``; ``"kept"``, if an earlier run did it; ``"failed"``.
        seconds: What it took.
        error: Why it failed, in one line.
        facts: What ``qfx quantize --json`` prints.
        attempts: How many processes had it.
    """

    name: str
    status: str
    seconds: float
    error: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    attempts: int = 1

    def as_dict(self) -> dict[str, Any]:
        """In plain values."""
        return asdict(self)


def record_path(job: Job) -> Path:
    """Where the job's record is."""
    return job.output.with_name(f"{job.output.name}.json")


def finished(job: Job, digest: str) -> Result | None:
    """The result of an earlier run, if the job and its output are still what they were."""
    try:
        record = json.loads(record_path(job).read_text(encoding="utf-8"))
        same = record["format"] == _FORMAT and record["status"] == "done" and record["job"] == digest
        files = [job.output, *([Path(record["facts"]["report"])] if record["facts"]["report"] else [])]
        if same and all(f.is_file() for f in files) and file_digest(job.output) == record["output"]:
            return Result(job.name, "kept", float(record["seconds"]), facts=record["facts"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # no record, or none of ours: the job is done again
    return None


def run_job(job: Job, digest: str, threads: int | None) -> Result:
    """Do a job and write its record; runs in the process or on the machine that has it."""
    started = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):
        facts, error = _converted(job, threads)
    seconds = time.perf_counter() - started
    if error is not None:
        return record_failure(job, digest, error, seconds=seconds)
    facts = finite(facts)
    _write_record(job, digest, status="done", output=file_digest(job.output), seconds=seconds, error=None, facts=facts)
    return Result(job.name, "done", seconds, facts=facts)


def record_failure(job: Job, digest: str, error: str, attempts: int = 1, seconds: float = 0.0) -> Result:
    """The result of a job that failed, which is recorded too, as far as there is a folder for it."""
    with contextlib.suppress(QfxError):
        _write_record(job, digest, status="failed", output=None, seconds=seconds, error=error, facts={})
    return Result(job.name, "failed", seconds, error=error, attempts=attempts)


def _converted(job: Job, threads: int | None) -> tuple[Mapping[str, Any], str | None]:
    """The facts, or why it failed."""
    from qfx.cli.blame import told
    from qfx.cli.conversion import Conversion, convert
    from qfx.cli.main import one_line
    from qfx.cli.threads import use_threads

    if job.folder not in sys.path:
        sys.path.insert(0, job.folder)
    try:
        use_threads(threads)
        return convert(Conversion.of(job.options)).data, None
    except QfxError as error:
        return {}, one_line(error)
    except (Exception, SystemExit) as error:
        return {}, told(error)


def _write_record(job: Job, digest: str, **content: Any) -> None:
    write_atomically(
        record_path(job), f"{as_json({'format': _FORMAT, 'name': job.name, 'job': digest, **content})}\n".encode()
    )
