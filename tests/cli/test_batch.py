"""``qfx batch``: jobs, records, resuming, processes that die, executors of others."""

from __future__ import annotations

import concurrent.futures
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from qfx.cli import main
from qfx.cli.batch import convert_all
from qfx.cli.jobs import read_jobs
from qfx.cli.workers import WorkerDied, Workers
from qfx.errors import InputError
from qfx.file.model import load
from tests.cli.processes import finished, start, wait_until_started

GOOD = """
[defaults]
calibration = "cli_models:batches"
no-adaptive-rounding = true

[[job]]
model = "cli_models:make"
output = "a.qfx"

[[job]]
name = "second"
model = "cli_models:make"
output = "b.qfx"
qconfig = "cfg.json"
calibration = "data.npz"
batch-size = 2
"""


def inline(jobs: str = "jobs.toml", **options: Any) -> list[Any]:
    """The jobs done in this process, one after the other."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return convert_all(read_jobs(Path(jobs)), pool, **options)


def test_jobs_become_files_with_records(folder: Path) -> None:
    Path("jobs.toml").write_text(GOOD)
    results = inline()
    assert [(r.name, r.status) for r in results] == [("a", "done"), ("second", "done")]
    assert all(record.recovery == ("bias corrected",) for record in load("a.qfx").report)
    record = json.loads(Path("b.qfx.json").read_text())
    assert (record["status"], record["facts"]["int8"]) == ("done", 2)


def test_a_finished_job_is_kept_until_something_changes(folder: Path) -> None:
    Path("jobs.toml").write_text(GOOD)
    inline()
    times = {name: Path(name).stat().st_mtime_ns for name in ("a.qfx", "b.qfx")}
    assert [r.status for r in inline()] == ["kept", "kept"]
    assert times == {name: Path(name).stat().st_mtime_ns for name in ("a.qfx", "b.qfx")}
    Path("cfg.json").write_text('{"": "qnnpack"}')
    assert [r.status for r in inline()] == ["kept", "done"]
    Path("b.qfx").write_bytes(Path("b.qfx").read_bytes()[:-1])
    assert [r.status for r in inline()] == ["kept", "done"]
    Path("a.qfx.json").write_text("{")
    assert [r.status for r in inline()] == ["done", "kept"]
    assert [r.status for r in inline(again=True)] == ["done", "done"]


def test_one_failure_stops_no_other(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = [f'[[job]]\nmodel = "cli_models:{name}"\noutput = "{name}.qfx"\n' for name in ("broken", "leaves")]
    Path("jobs.toml").write_text("".join(broken) + GOOD)
    results = inline()
    assert [r.status for r in results] == ["failed", "failed", "done", "done"]
    assert "in broken: raise FileNotFoundError" in results[0].error
    assert "SystemExit" in results[1].error
    assert json.loads(Path("broken.qfx.json").read_text())["status"] == "failed"
    assert not Path("broken.qfx").exists()


class Dying(concurrent.futures.Executor):
    """Whose first futures of the job ``a`` fail as if their process had died."""

    def __init__(self, deaths: int) -> None:
        self.deaths = deaths

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        if args[0].name == "a" and self.deaths:
            self.deaths -= 1
            future.set_exception(WorkerDied("killed"))
        else:
            future.set_result(fn(*args, **kwargs))
        return future


@pytest.mark.parametrize(("deaths", "status"), [(1, "done"), (2, "failed")])
def test_a_job_whose_worker_dies_gets_a_second_one(folder: Path, deaths: int, status: str) -> None:
    Path("jobs.toml").write_text(GOOD)
    results = convert_all(read_jobs(Path("jobs.toml")), Dying(deaths))
    assert [r.status for r in results] == [status, "done"]
    assert Path("a.qfx").exists() == (status == "done")
    if status == "failed":
        assert results[0].attempts == 2
        assert "killed" in json.loads(Path("a.qfx.json").read_text())["error"]


WRONG = {
    "syntax": ("[[job]", "no valid TOML"),
    "nothing": ("", "holds no jobs"),
    "key": ("[[jobs]]\n", "Did you mean [[job]]?"),
    "one table": ('[job]\nmodel = "m:f"\n', "no list of jobs"),
    "no model": ('[[job]]\noutput = "a.qfx"\n', "has no model"),
    "no output": ('[[job]]\nmodel = "m:f"\n', "has no output"),
    "option": ('[[job]]\nmodel = "m:f"\noutput = "a.qfx"\ncalibrate = "x"\n', "Did you mean 'calibration'?"),
    "underscore": ('[[job]]\nmodel = "m:f"\noutput = "a.qfx"\nbatch_size = 3\n', "Did you mean 'batch-size'?"),
    "value": ('[[job]]\nmodel = "m:f"\noutput = "a.qfx"\nbatch-size = 0\n', "'0' is no whole number of 1 or more"),
    "type": ('[[job]]\nmodel = "m:f"\noutput = "a.qfx"\nqconfig = {}\n', "qconfig is {}"),
    "choice": ('[[job]]\nmodel = "m:f"\noutput = "a.qfx"\nfrontend = "exprot"\n', "Did you mean 'export'?"),
    "same output": ('[[job]]\nmodel = "m:f"\noutput = "a.qfx"\n' * 2, "the name 'a'"),
    "name": ('[[job]]\nname = 3\nmodel = "m:f"\noutput = "a.qfx"\n', "the name 3"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_of_jobs_starts_none(folder: Path, name: str) -> None:
    text, message = WRONG[name]
    Path("jobs.toml").write_text(text)
    with pytest.raises(InputError) as caught:
        read_jobs(Path("jobs.toml"))
    assert message in str(caught.value)


def test_paths_are_those_of_the_folder_of_the_file(folder: Path) -> None:
    Path("deep").mkdir()
    Path("deep/net.pt2").touch()
    Path("deep/jobs.toml").write_text('[[job]]\nmodel = "net.pt2"\noutput = "a.qfx"\ncalibration = "m:data"\n')
    (job,) = read_jobs(Path("deep/jobs.toml"))
    assert job.output == folder / "deep/a.qfx"
    assert (job.options.model, job.options.calibration) == (str(folder / "deep/net.pt2"), "m:data")


# ---------------------------------------------------------------- processes


def _die(path: str) -> int:
    """Kill this process, the first time."""
    if not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 7


@pytest.mark.slow
def test_a_process_that_dies_takes_its_own_task_alone(tmp_path: Path) -> None:
    with Workers(2) as pool:
        futures = [pool.submit(_die, str(tmp_path / "a")), pool.submit(pow, 2, 5), pool.submit(divmod, 1, 0)]
        with pytest.raises(WorkerDied, match="SIGKILL"):
            futures[0].result(60)
        assert futures[1].result(60) == 32
        with pytest.raises(ZeroDivisionError):
            futures[2].result(60)
        assert pool.submit(_die, str(tmp_path / "a")).result(60) == 7


DIES = """
import os, signal, pathlib, cli_models
def once():
    if not pathlib.Path("died").exists():
        pathlib.Path("died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return cli_models.make()
def always():
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_the_command_survives_killed_workers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("dies.py").write_text(DIES)
    more = '[[job]]\nmodel = "dies:once"\noutput = "c.qfx"\n[[job]]\nmodel = "dies:always"\noutput = "d.qfx"\n'
    Path("jobs.toml").write_text(GOOD + more)
    assert main(["batch", "jobs.toml", "--workers", "2", "--threads", "1", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [job["status"] for job in told["jobs"]] == ["done", "done", "done", "failed"]
    assert "SIGKILL" in told["jobs"][3]["error"]
    assert main(["batch", "jobs.toml", "--workers", "1"]) == 1
    table = capsys.readouterr().out
    assert table.splitlines()[-1] == "4 jobs: 1 failed, 3 kept"
    assert not [p for p in folder.iterdir() if ".part" in p.name]


@pytest.mark.slow
def test_after_ctrl_c_it_goes_on_where_it_was(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    waiting = '[[job]]\nmodel = "cli_models:waits"\noutput = "w.qfx"\n'
    Path("jobs.toml").write_text(GOOD + waiting)
    process = start("batch", "jobs.toml", "--workers", "1", start_new_session=True)
    wait_until_started()
    assert main(["batch", "jobs.toml"]) == 1
    assert "Another qfx batch" in capsys.readouterr().err
    os.killpg(process.pid, signal.SIGINT)
    code, told = finished(process)
    assert code == 130
    assert told == "qfx batch: interrupted; 2 of 3 jobs are done; run it again to go on\n"
    assert not [p for p in folder.iterdir() if ".part" in p.name]
    Path("jobs.toml").write_text(GOOD)
    assert [r.status for r in inline()] == ["kept", "kept"]


@pytest.mark.slow
def test_jobs_run_on_a_cluster(folder: Path) -> None:
    distributed = pytest.importorskip("distributed")
    Path("jobs.toml").write_text(GOOD + '[[job]]\nmodel = "cli_models:broken"\noutput = "x.qfx"\n')
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        results = convert_all(read_jobs(Path("jobs.toml")), client.get_executor())
    assert [r.status for r in results] == ["done", "done", "failed"]
    assert "in broken: raise FileNotFoundError" in str(results[2].error)
    assert load("b.qfx").report.decided("int8")
