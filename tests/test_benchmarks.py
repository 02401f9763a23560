"""The benchmarks run and check what they measure; how fast it was is not looked at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.__main__ import PARTS, run

SIZES = {"files": 20, "videos": 4, "audio": 3, "latency": 1, "slow": 10, "repeat": 1}
WARM = {"rows": 500, "distinct": 50, "memory": 50, "statements": 400, "presigned": 50}
# The other parts take longer than they tell here; they share their code with these.
FAST = ["images", "limit", "warm", "statements", "loadable", "signing"]


def test_every_part_is_measured_and_every_answer_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = [f"--{name}={size}" for name, size in (SIZES | WARM).items()]
    found = run([*sizes, "--small", "--only", *FAST, "--json", str(tmp_path / "out.json")])
    rows = {part: {row["case"]: row for row in rows} for part, rows in found["parts"].items()}
    assert set(rows) == set(FAST) <= set(PARTS)
    assert all(row["correct"] for part in rows.values() for row in part.values())
    assert json.loads((tmp_path / "out.json").read_text()) == found
    assert {"mediasql", "aiohttp, same plan (limit)", "threads, download"} <= set(rows["images"])
    assert rows["images"]["threads, download"]["requests_per_file"] == 1
    assert rows["images"]["aiohttp, same plan (limit)"]["requests_per_file"] >= 1
    assert rows["images"]["threads, download"]["x_download"] == 1
    assert rows["limit"]["LIMIT 10"]["needed"] == 10 <= rows["limit"]["LIMIT 10"]["touched"]
    assert found["environment"]["packages"]["aiohttp"]
    printed = capsys.readouterr().out
    assert all(f"\n{part}  (load" in printed for part in FAST)
    assert json.loads(printed.splitlines()[-1]) == found


def test_targets_take_the_worst_row() -> None:
    target = report.Target("fast enough", "images", lambda row: row["ms"] > 0, "x", at_least=2)
    judged = target.judge([{"ms": 30, "x": 3.0}, {"ms": 30, "x": 1.0}, {"ms": 0, "x": 0.1}])
    assert judged == {"target": "fast enough", "bound": 2, "is": 1.0, "met": False}
    assert target.judge([{"ms": 0, "x": 3.0}]) is None
