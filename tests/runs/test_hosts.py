"""Several processes as one run, for real on this machine: they find each other, agree, compute the same, and end."""

import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import pytest

from mmvae_jax.errors import UserError
from mmvae_jax.hosts import Place, announced, place
from mmvae_jax.rollcall import call_roll
from mmvae_jax.runs import load_run
from mmvae_jax.runs.launch import main as launch
from tests.runs.own_experiment import EXPERIMENT
from tests.runs.processes import ROOT, Run, last_step

OWN = Path(__file__).with_name("own_experiment.py")
JAX = {"JAX_COORDINATOR_ADDRESS": "10.0.0.1:8476", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "1"}


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, None),
        (JAX, Place("10.0.0.1:8476", 1, 4)),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "1"}, None),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "16"}, "Slurm"),
        ({"SLURM_NTASKS": "16"} | JAX, Place("10.0.0.1:8476", 1, 4)),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "Open MPI"),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.2"}, None),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.2", "JOB_COMPLETION_INDEX": "0"}, "Kubernetes"),
    ],
)
def test_what_launchers_announce(environment, found):
    assert announced(environment) == found


def test_half_of_jax_s_variables_is_refused():
    with pytest.raises(UserError, match="JAX_COORDINATOR_ADDRESS=10.0.0.1:8476 without JAX_NUM_PROCESSES: set all"):
        announced({name: value for name, value in JAX.items() if name != "JAX_NUM_PROCESSES"})


@pytest.mark.parametrize("text", ["on", "10.0.0.1,0,4", "10.0.0.1:8476,0", "10.0.0.1:8476,4,4", ":8476,0,4", "a:b,0,2"])
def test_an_impossible_place_is_refused(text):
    with pytest.raises(UserError, match=re.escape(f"distributed='{text}'")):
        place(text)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def roll(claims: Sequence[tuple[int, int]], timeout: float = 20) -> list[str]:
    """What each of some processes that claim a number and a count learns from the roll; "" if all is well."""
    address, said = f"127.0.0.1:{free_port()}", [""] * len(claims)

    def answer(i: int, process: int, count: int) -> None:
        try:
            call_roll(address, process, count, timeout)
        except UserError as error:
            said[i] = str(error)

    threads = [threading.Thread(target=answer, args=(i, *claim)) for i, claim in enumerate(claims)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return said


def test_all_processes_hear_what_is_wrong():
    assert roll([(0, 3), (1, 3), (2, 3)]) == ["", "", ""]
    assert set(roll([(0, 3), (1, 3), (1, 3)])) == {"two processes have number 1 of 3: give each an ID of its own"}
    assert set(roll([(0, 2), (1, 3)])) == {"process 0 was told of 2 processes, number 1 of 3: give all the same COUNT"}
    assert set(roll([(0, 4), (2, 4)], timeout=0.5)) == {
        "of 4 processes 1, 3 did not come within 0.5 s: start every ID once"
    }
    (alone,) = roll([(1, 2)], timeout=0.5)
    assert re.fullmatch(r"no answer from 127\.0\.0\.1:\d+ within 0\.5 s: start process 0 there, its port open", alone)


def test_strangers_at_the_port_neither_end_the_roll_call_nor_hold_it_up(monkeypatch):
    monkeypatch.setattr("mmvae_jax.rollcall._PATIENCE", 0.2)
    port, said = free_port(), []

    def answer(process: int, host: str) -> None:
        call_roll(f"{host}:{port}", process, 2, 20)
        said.append(process)

    first = threading.Thread(target=answer, args=(0, "localhost"))
    first.start()
    strangers = []
    while len(strangers) < 3:
        try:
            strangers.append(socket.create_connection(("127.0.0.1", port)))
        except ConnectionRefusedError:
            time.sleep(0.05)
    strangers[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    strangers[0].close()  # resets
    strangers[1].sendall(b"GET / HTTP/1.1\r\n")
    answer(1, "[::1]" if socket.has_dualstack_ipv6() else "127.0.0.1")  # the third says nothing
    first.join()
    for stranger in strangers:
        stranger.close()
    assert sorted(said) == [0, 1]


def test_a_port_in_use_is_refused():
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"process 0 cannot listen at port {port}: address already in use"):
            call_roll(f"127.0.0.1:{port}", 0, 2, 1)


@pytest.mark.parametrize(
    "manager",
    [
        {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_STEP_NODELIST": "127.0.0.1", "SLURM_LOCALID": "0"},
        {
            "OMPI_COMM_WORLD_SIZE": "2",
            "OMPI_COMM_WORLD_LOCAL_RANK": "0",
            "OMPI_MCA_orte_hnp_uri": "4096.0;tcp://127.0.0.1:1",
        },
    ],
    ids=["Slurm", "Open MPI"],
)
@pytest.mark.parametrize("process", ["0", "1"])
def test_a_manager_s_process_whose_others_do_not_come_ends_with_one_line(manager, process):
    """Whether they wait for the first one or are waited for by it."""
    place = {"SLURM_PROCID": process, "OMPI_COMM_WORLD_RANK": process, "JAX_COORDINATOR_PORT": str(free_port())}
    ended = subprocess.run(
        [sys.executable, OWN, "--distributed-timeout=3"],
        env=os.environ | manager | place | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert ended.returncode == 2
    assert re.fullmatch(
        r"error: processes started by (Slurm|Open MPI) did not all come within 3 s: give --distributed=.*\n",
        ended.stderr,
    )


def test_the_launcher_tells_processes_their_place_and_returns_the_worst_code(capfd):
    program = (
        "import os, sys; n = int(os.environ['JAX_PROCESS_ID']); print('here', file=sys.stderr); print(n); sys.exit(n)"
    )
    assert launch(["--processes=3", "--", sys.executable, "-c", program]) == 2
    out, err = capfd.readouterr()
    assert out == "0\n"
    assert err == "here\n[process 1] 1\n[process 2] 2\n"


def test_the_launcher_passes_signals_on(capfd):
    program = "import os, signal; os.kill(os.getppid(), signal.SIGTERM) if os.environ['JAX_PROCESS_ID'] == '1' else 0; signal.pause()"
    assert launch(["--processes=2", "--", sys.executable, "-c", program]) == 128 + signal.SIGTERM
    said = r"error: process [01] was ended by SIGTERM; the same command goes on from what is saved\n"
    assert re.fullmatch(said, capfd.readouterr().err)


def test_the_launcher_tells_of_a_lost_process_at_once_and_ends_those_that_wait_for_it(capfd, monkeypatch):
    monkeypatch.setattr("mmvae_jax.runs.launch._SECONDS_AFTER_A_LOSS", 1.0)
    program = "import os, signal; os.kill(os.getpid(), signal.SIGKILL) if os.environ['JAX_PROCESS_ID'] == '3' else 0; signal.pause()"
    assert launch(["--processes=4", "--", sys.executable, "-c", program]) == 128 + signal.SIGKILL
    said = "error: process 3 was ended by SIGKILL; the same command goes on from what is saved\n"
    assert capfd.readouterr().err == said


def test_the_launcher_names_a_signal_that_ends_a_process_after_another_has_failed(capfd):
    program = (
        "import os, signal, sys, time; sys.exit(3) if os.environ['JAX_PROCESS_ID'] == '1' else time.sleep(2); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert launch(["--processes=2", "--", sys.executable, "-c", program]) == 128 + signal.SIGKILL
    assert capfd.readouterr().err == "[process 0] ended by SIGKILL\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--processes=2"], "no command: "),
        (["--processes=0", "--", "true"], "processes=0: give a whole number of at least 1"),
        (["--", "no-such-program"], "no program 'no-such-program': give a command after --"),
    ],
)
def test_a_mistaken_launch_is_one_line(arguments, line, capfd):
    assert launch(arguments) == 2
    err = capfd.readouterr().err
    assert err.startswith(f"error: {line}") and err.count("\n") == 1


@pytest.mark.slow
def test_a_signal_to_one_stops_all_and_a_lost_one_ends_all(tmp_path):
    out, cache = tmp_path / "run", f"--cache={tmp_path / 'cache'}"
    endless = Run(2, [OWN], "--steps=1000000", f"--out={out}", cache)
    endless.wait_for("step ")
    os.kill(endless.worker(1), signal.SIGTERM)
    assert endless.end() == 0
    saved = last_step(out)
    assert f"another process was stopped: saved step {saved}; the same command resumes there" in endless.said

    again = Run(2, [OWN], "--steps=1000000", f"--out={out}", cache)
    again.wait_for(f"resuming at step {saved} of 1000000")
    again.wait_for("step ")
    killed = time.monotonic()
    os.kill(again.worker(1), signal.SIGKILL)
    assert again.end() == 128 + signal.SIGKILL
    assert time.monotonic() - killed < 60
    assert re.search(
        r"^error: process 0 lost another process of this run \(.*\); the same command goes on", again.said, re.M
    )
    assert "Traceback" not in again.said

    alone = Run(1, [OWN], f"--steps={saved + 40}", f"--out={out}", cache)
    assert alone.end() == 0
    assert "resuming at step" in alone.said and last_step(out) == saved + 40
    assert (out / "report.html").is_file()


# A run that is its training: nothing is measured and drawn.
UNMEASURED = """
import sys, time
from dataclasses import replace
import jax
from mmvae_jax.runs import main, runner
from tests.runs.own_experiment import EXPERIMENT

def load(config):
    time.sleep({seconds} * jax.process_index())
    return EXPERIMENT.load(config)

runner.measure = runner.powerset_shown = lambda context: {{}}
runner.draw_all = lambda *_: []
sys.exit(main(replace(EXPERIMENT, load=load)))
"""


@pytest.mark.slow
def test_a_host_that_reads_its_data_slowly_is_waited_for(tmp_path):
    run = Run(
        2,
        ["-c", UNMEASURED.format(seconds=40)],
        f"--out={tmp_path / 'run'}",
        f"--cache={tmp_path / 'cache'}",
        devices=2,
    )
    assert run.end() == 0, run.said
    assert last_step(tmp_path / "run") == 4


@pytest.mark.slow
def test_what_four_processes_saved_any_number_of_devices_goes_on_with(tmp_path):
    def train(name: str, steps: int, processes: int, devices: int, resumed: bool = False) -> np.ndarray:
        out, cache = f"--out={tmp_path / name}", f"--cache={tmp_path / 'cache'}"
        flags = [f"--steps={steps}", "--batch-size=40", "--learning-rate=1e-4", out, cache]
        run = Run(processes, ["-c", UNMEASURED.format(seconds=0)], *flags, devices=devices)
        assert run.end() == 0, run.said
        assert ("resuming at step 40 of 80" in run.said) == resumed
        params = load_run(EXPERIMENT, tmp_path / name)[1].params
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params)])

    uninterrupted = train("uninterrupted", 80, processes=1, devices=1)
    train("four", 40, processes=4, devices=1)
    for devices in (1, 2, 8):
        shutil.copytree(tmp_path / "four", tmp_path / str(devices))
        found = train(str(devices), 80, processes=1, devices=devices, resumed=True)
        np.testing.assert_allclose(found, uninterrupted, rtol=1e-5, atol=1e-5)
