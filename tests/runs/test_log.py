"""The log of a run: one line a report, resuming after a kill, TensorBoard events, progress."""

import json
import struct
from pathlib import Path

import jax.numpy as jnp
import pytest
from tensorboardX.proto.event_pb2 import (
    Event,  # pyright: ignore[reportAttributeAccessIssue]
    SessionLog,  # pyright: ignore[reportAttributeAccessIssue]
)

from mmvae_jax.runs import log as runlog
from mmvae_jax.runs.log import RunLog, read_log


class Clock:
    """Stands in for the time module of `runs.log`."""

    def __init__(self) -> None:
        self.now = 50.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(runlog, "time", clock)
    return clock


def test_in_a_bucket_the_file_is_written_anew_every_few_seconds_and_in_the_end(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    """Nothing can be added to a file there; what an earlier run left stays."""
    monkeypatch.setattr(runlog, "in_bucket", lambda folder: True)
    with RunLog(tmp_path, 100, 0, 8, show_progress=False) as log:
        clock.now += 1
        log.report(10, {"loss": 3.0})
        assert lines(tmp_path) == []
        clock.now += 5
        log.report(20, {"loss": 2.0})
        assert [row["step"] for row in lines(tmp_path)] == [10, 20]
        clock.now += 1
        log.report(30, {"loss": 1.0})
    assert [row["step"] for row in lines(tmp_path)] == [10, 20, 30]
    with RunLog(tmp_path, 100, 20, 8, show_progress=False) as log:
        clock.now += 1
        log.report(25, {"loss": 1.5})
    assert [row["step"] for row in lines(tmp_path)] == [10, 20, 25]


def lines(folder: Path) -> list[dict]:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    text = (folder / "log.jsonl").read_text()
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def events(folder: Path) -> list[Event]:
    """All TensorBoard events, read from the record format itself: length, crc, event, crc."""
    found = []
    for path in sorted((folder / "tensorboard").glob("events.*")):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            found.append(Event.FromString(content[12 : 12 + length]))
            content = content[16 + length :]
    return found


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [
        (event.step, value.simple_value)
        for event in events(folder)
        for value in event.summary.value
        if value.tag == tag
    ]


def test_a_report_is_a_line_with_time_and_throughput(tmp_path: Path, clock: Clock):
    with RunLog(tmp_path, 100, 0, batch_size=8, show_progress=False) as log:
        clock.now += 2
        log.report(10, {"loss": jnp.float32(1.5), "kl": 0.25})
        clock.now += 4
        log.report(30, {"loss": 1.0, "kl": 0.5})
        assert log.seconds == 6
    assert lines(tmp_path) == [
        {"step": 10, "seconds": 2, "examples_per_second": 40, "loss": 1.5, "kl": 0.25},
        {"step": 30, "seconds": 6, "examples_per_second": 40, "loss": 1.0, "kl": 0.5},
    ]
    assert read_log(tmp_path) == lines(tmp_path)


def test_a_line_is_on_disk_before_the_next_step(tmp_path: Path):
    log = RunLog(tmp_path, 100, 0, batch_size=8, show_progress=False)
    log.report(10, {"loss": 1.0})
    assert [row["step"] for row in lines(tmp_path)] == [10]
    log.close()


def test_what_is_not_finite_is_null(tmp_path: Path):
    with RunLog(tmp_path, 100, 0, batch_size=8, show_progress=False) as log:
        log.report(10, {"loss": float("nan"), "kl": float("inf")})
    assert lines(tmp_path)[0]["loss"] is None
    assert lines(tmp_path)[0]["kl"] is None


def test_steps_must_increase(tmp_path: Path):
    with RunLog(tmp_path, 100, 10, batch_size=8, show_progress=False) as log:
        with pytest.raises(ValueError, match="must increase"):
            log.report(10, {"loss": 1.0})
        log.report(11, {"loss": 1.0})
        with pytest.raises(ValueError, match="must increase"):
            log.report(11, {"loss": 1.0})


def killed_at_40(folder: Path, clock: Clock) -> None:
    with RunLog(folder, 100, 0, batch_size=8, show_progress=False) as log:
        for step in (10, 20, 30, 40):
            clock.now += 5
            log.report(step, {"loss": float(step)})
    with open(folder / "log.jsonl", "ab") as file:
        file.write(b'{"step": 50, "seconds": 3')


def test_resuming_drops_what_the_killed_run_wrote_past_its_checkpoint(tmp_path: Path, clock: Clock):
    killed_at_40(tmp_path, clock)
    clock.now += 1000
    with RunLog(tmp_path, 100, 20, batch_size=8, show_progress=False) as log:
        clock.now += 2
        log.report(30, {"loss": -1.0})
    rows = lines(tmp_path)
    assert [(row["step"], row["seconds"]) for row in rows] == [(10, 5), (20, 10), (30, 12)]
    assert rows[-1]["loss"] == -1.0


def test_resuming_at_a_torn_last_line_keeps_the_whole_ones(tmp_path: Path, clock: Clock):
    killed_at_40(tmp_path, clock)
    with RunLog(tmp_path, 100, 50, batch_size=8, show_progress=False) as log:
        log.report(60, {"loss": 0.0})
    assert [row["step"] for row in lines(tmp_path)] == [10, 20, 30, 40, 60]


def test_garbage_in_the_log_is_left_out(tmp_path: Path):
    good = b'{"step": 1, "seconds": 1.0}\n'
    (tmp_path / "log.jsonl").write_bytes(b"\x00\xff\n[1]\n{}\n" + good + good)
    assert read_log(tmp_path) == [{"step": 1, "seconds": 1.0}]


def test_a_fresh_run_forgets_the_one_before(tmp_path: Path, clock: Clock):
    killed_at_40(tmp_path, clock)
    with RunLog(tmp_path, 100, 0, batch_size=8, show_progress=False) as log:
        log.report(5, {"loss": 7.0})
    assert [row["step"] for row in lines(tmp_path)] == [5]
    assert scalars(tmp_path, "loss") == [(5, 7.0)]


def test_tensorboard_shows_every_term_and_purges_repeated_steps(tmp_path: Path, clock: Clock):
    killed_at_40(tmp_path, clock)
    assert scalars(tmp_path, "loss") == [(10, 10.0), (20, 20.0), (30, 30.0), (40, 40.0)]
    with RunLog(tmp_path, 100, 20, batch_size=8, show_progress=False) as log:
        clock.now += 4
        log.report(30, {"loss": -1.0})
    assert (30, -1.0) in scalars(tmp_path, "loss")
    assert (30, 20.0) in scalars(tmp_path, "examples_per_second")
    starts = [event.step for event in events(tmp_path) if event.session_log.status == SessionLog.START]
    assert starts == [21]


def test_without_a_terminal_a_line_every_ten_seconds(tmp_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str]):
    with RunLog(tmp_path, 100, 0, batch_size=8) as log:
        for step in range(1, 101):
            clock.now += 0.5
            log.report(step, {"loss": 2.0})
    printed = capsys.readouterr().err.splitlines()
    assert printed[0] == "step 1/100, loss 2, 16 examples/s, 00:49 left"
    assert [int(line.split()[1].split("/")[0]) for line in printed] == [1, 21, 41, 61, 81, 100]
    assert printed[-1].endswith("00:00 left")


def test_on_a_terminal_a_bar(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runlog.sys.stderr, "isatty", lambda: True, raising=False)
    with RunLog(tmp_path, 100, 50, batch_size=8) as log:
        log.report(100, {"loss": 1.25})
    bar = capsys.readouterr().err.split("\r")[-1]
    assert "100/100" in bar and "loss 1.25" in bar and "examples/s" in bar


def test_silent_when_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with RunLog(tmp_path, 100, 0, batch_size=8, show_progress=False) as log:
        log.report(100, {"loss": 1.0})
    assert capsys.readouterr().err == ""
