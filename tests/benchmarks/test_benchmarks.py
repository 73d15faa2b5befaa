"""The benchmarks' machinery: names, sampling, rows, targets, tables, the peer's protocol. No time is asserted."""

import inspect
import json
import statistics
import sys

import pytest

from benchmarks import peer_process
from benchmarks.catalogue import ENTRIES, Entry, chosen
from benchmarks.measure import Work, sample
from benchmarks.peer_process import PeerProcess
from benchmarks.plots import draw
from benchmarks.report import judged, seconds, table
from benchmarks.run import main
from benchmarks.scales import SCALES
from benchmarks.worker import measured

ECHO = """
import json, sys
print(json.dumps({"torch": "none"}), flush=True)
for line in sys.stdin:
    message = json.loads(line)
    if message.get("job") == "die":
        sys.exit(3)
    print(json.dumps({"got": message} if "job" in message else {"seconds": 0.25, "peak_mib": 7.0}), flush=True)
"""


@pytest.mark.parametrize("name", ENTRIES)
def test_every_entry_names_a_function_that_takes_its_arguments(name: str):
    entry = ENTRIES[name]
    inspect.signature(entry.load()).bind(SCALES["tiny"], None, *entry.arguments)


def test_names_are_groups_or_single_benchmarks():
    assert chosen(["train"]) == ["train/poe", "train/moe", "train/mopoe"]
    assert chosen(["fusion/10", "train/poe"]) == ["train/poe", "fusion/10"]
    assert chosen([]) == list(ENTRIES)
    with pytest.raises(ValueError, match="no benchmark 'trai': choose among train, compile"):
        chosen(["trai"])


def test_ours_and_rival_alternate_in_changing_order():
    order: list[str] = []

    def call(name: str, seconds: float):
        def run() -> float:
            order.append(name)
            return seconds

        return run

    work = Work(call("ours", 2.0), per=4, rival=call("rival", 8.0))
    found = sample(work, repeats=3, budget=0.0)
    assert order[2:] == ["ours", "rival", "rival", "ours", "ours", "rival"]
    assert found.ours == [0.5] * 3 and found.rival == [2.0] * 3 and found.first == 0.5
    assert found.summary()["ratio"] == 0.25


def test_the_budget_stops_after_three_repeats():
    work = Work(lambda: 1.0)
    assert len(sample(work, repeats=9, budget=0.0).ours) == 3
    assert len(sample(work, repeats=9, budget=60.0).ours) == 9


def test_a_row_has_its_samples_medians_memory_and_notes():
    row = measured("effects/heads", "tiny", None, repeats=4, budget=60.0, peer=None)
    assert row["median"] == statistics.median(row["samples"]) and len(row["samples"]) == 4
    ratios = [ours / rival for ours, rival in zip(row["samples"], row["rival"]["samples"], strict=True)]
    assert row["ratio"] == statistics.median(ratios) and row["against"] == "two heads"
    assert row["peak_mib"] >= row["imports_mib"] > 10
    assert row["notes"]["largest_relative_difference_of_gradients"] < 1e-5


def test_targets_are_judged_only_where_something_was_measured():
    row = {"name": "x", "scale": "full", "median": 0.5, "peak_mib": 5 * 1024.0, "times_limit": 3.0}
    entry = Entry("m:f", "", ratio=0.6, limit=2.0, seconds=0.6, memory_gib=4.0)
    assert judged({**row, "scale": "tiny"}, entry)["targets"] == {}
    assert judged(row, entry)["targets"] == {
        "times_limit": {"at_most": 2.0, "met": False},
        "seconds": {"at_most": 0.6, "met": True},
        "memory_gib": {"at_most": 4.0, "met": False},
    }


def test_the_table_has_a_cell_for_everything():
    full = {"name": "a/b", "scale": "full", "median": 0.5, "min": 0.4, "max": 0.6, "peak_mib": 100.0}
    full |= {"rival": {"median": 1.0}, "ratio": 0.5, "against": "it", "times_limit": 1.5}
    rows = [judged(full, Entry("m:f", "", ratio=0.6)), {"name": "c", "error": "no | such thing"}]
    lines = table(rows, markdown=True).splitlines()
    assert "500 ms" in lines[2] and "ratio <= 0.6 met" in lines[2] and "no / such thing" in lines[3]
    assert len({line.count("|") for line in lines}) == 1
    assert "ratio <= 0.6 met" in table(rows)


def test_times_are_written_with_three_digits():
    assert [seconds(value) for value in (12.345, 0.25, 3.2e-5, 4e-7)] == ["12.3 s", "250 ms", "32 us", "0.4 us"]


def test_plots_are_drawn_of_what_was_measured(tmp_path):
    def row(size: int) -> dict:
        found = {"name": f"batch/{size}", "median": 0.1 * size, "limit_seconds": 0.05 * size, "notes": {"batch": size}}
        return found | {"flops": 1e9, "matmul_gflops": 100.0}

    assert draw([row(1)], tmp_path, "x") == []
    assert draw([row(1), row(2), {"name": "batch/4", "error": "e"}], tmp_path, "x") == [tmp_path / "x-batch.png"]


def test_the_peer_is_asked_in_json_lines(tmp_path, monkeypatch):
    script = tmp_path / "echo.py"
    script.write_text("import cProfile\n" + ECHO)
    (tmp_path / "profile.py").write_text("raise ImportError('not the standard library')")
    monkeypatch.setattr(peer_process, "_SCRIPT", script)
    with PeerProcess(sys.executable) as peer:
        peer.prepare({"job": "train", "count": 2})
        assert peer.about == {"torch": "none"} and peer.notes == {"got": {"job": "train", "count": 2}}
        assert peer.run() == 0.25 and peer.peak_mib == 7.0
        with pytest.raises(RuntimeError, match="ended with code 3"):
            peer.prepare({"job": "die"})


def test_the_command_writes_rows_and_keeps_those_of_other_benchmarks(tmp_path, capsys):
    path = tmp_path / "results" / "x.json"
    common = ["--scale=tiny", "--repeats=3", f"--json={path}"]
    assert main(["effects/heads", *common]) == 0
    first = json.loads(path.read_text())
    assert {"machine", "versions", "command", "rows"} <= first.keys()
    assert first["machine"]["cores"] >= 1 and first["versions"]["jax"]
    (row,) = first["rows"]
    assert row["name"] == "effects/heads" and row["scale"] == "tiny" and row["commit"] and len(row["samples"]) == 3
    assert main(["data/build", f"--data={tmp_path / 'nowhere'}", *common]) == 1
    heads, failed = json.loads(path.read_text())["rows"]
    assert heads == row and "nowhere" in failed["error"]
    assert "failed" in capsys.readouterr().out


def test_an_unknown_name_is_one_line(capsys):
    assert main(["nothing"]) == 2
    assert capsys.readouterr().err.startswith("error: no benchmark 'nothing'")
