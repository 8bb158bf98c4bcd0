"""Breaks a promise on purpose in a copy of the tree, and asks the chaos suite there whether it notices.

A patch that no longer fits the code is a failure: it would prove nothing. Run by hand it tries all of them::

    PYTHONPATH=tests:tools .venv/bin/python -m chaos.break_promises
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent.parent
# What the copy needs to run the suite by itself.
_PARTS: Final = ("producer", "worker", "tests", "tools", "pyproject.toml")
_RUN_S: Final = 600.0


class DoesNotFit(Exception):
    """The code that a patch replaces is not there, or not just once."""


class OtherTree(Exception):
    """The copy did not run its own code."""


@dataclass(frozen=True, slots=True)
class Patch:
    """In *file* the text *old*, which stands there once, becomes *new*."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Breach:
    """A promise that is broken by *patches*; the checker has to find it under *promise* with one of *seeds*.

    *says*: what a violation has to say, to be that of this breach.
    """

    name: str
    promise: str
    patches: tuple[Patch, ...]
    seeds: tuple[int, ...]
    says: str = ""


BREACHES: Final = (
    Breach(
        "acknowledged before the result",
        "nothing lost",
        (
            Patch(
                "worker/otpost_worker/worker.py",
                "        crashed = False\n        try:\n            await way()\n",
                "        crashed = False\n        try:\n"
                "            for early in self._deliveries[key]:\n"
                "                await early.acknowledge()\n"
                "            await way()\n",
            ),
            Patch(
                "worker/otpost_worker/worker.py",
                "            await (delivery.requeue() if crashed else delivery.acknowledge())\n",
                "            _ = delivery\n",
            ),
        ),
        seeds=(13, 33, 8),
    ),
    Breach(
        "no claim",
        "nothing twice",
        (
            Patch(
                "worker/otpost_worker/ledger/sqlite/operations.py",
                "    action = judge(known, wish, now=now)\n",
                "    action = Claim()\n",
            ),
            Patch(
                "worker/otpost_worker/ledger/sqlite/operations.py",
                '"INSERT INTO attempts (job_id',
                '"INSERT OR REPLACE INTO attempts (job_id',
            ),
        ),
        seeds=(13, 33),
    ),
    Breach(
        "no look at the deadline",
        "nothing late",
        (
            Patch(
                "worker/otpost_worker/decision.py",
                "        return deadline - self.timeout_s\n",
                "        return deadline + 10 * self.timeout_s\n",
            ),
        ),
        seeds=(13, 33),
    ),
    Breach(
        "given up long before the deadline",
        "nothing lost",
        (
            Patch(
                "worker/otpost_worker/decision.py",
                "        return deadline - self.timeout_s\n",
                "        return deadline - 10 * self.timeout_s\n",
            ),
        ),
        seeds=(13, 33),
    ),
    Breach(
        "a refusal taken for an answer that was lost",
        "nothing lost",
        (
            Patch(
                "worker/otpost_worker/decision.py",
                "            return _after_refusal(outcome, deadline, now, history, policy, random)\n",
                "            return after_unknown(\n"
                "                outcome.error, deadline=deadline, now=now, history=history, policy=policy\n"
                "            )\n",
            ),
        ),
        seeds=(13, 33),
    ),
    Breach(
        "no bucket for a recipient",
        "nothing jumps a limit",
        (
            Patch(
                "worker/otpost_worker/pacing.py",
                "    pair_start, pair_paid_until = _turn(track, now)\n",
                "    pair_start, pair_paid_until = now, track.pair_paid_until\n",
            ),
        ),
        seeds=(13, 33),
    ),
    Breach(
        "an unsealed burial",
        "nothing leaked",
        (
            Patch(
                "worker/otpost_worker/settling.py",
                "self._broker.bury(self._codes.cover(envelope), step.letter)",
                "self._broker.bury(envelope, step.letter)",
            ),
        ),
        seeds=(13, 33),
    ),
    Breach(
        "a webhook answered before it is stored",
        "nothing lost",
        (
            Patch(
                "worker/otpost_worker/webhook.py",
                "            await self._store.put(body, came_at)\n",
                "            self._stored = asyncio.ensure_future(self._store.put(body, came_at))\n",
            ),
        ),
        seeds=(8, 13, 23),
        says="and never told",
    ),
    Breach(
        "a report that is written down and not told after a crash",
        "nothing lost",
        (
            Patch(
                "worker/otpost_worker/delivery_reports.py",
                "                await self._publish(verdict, story, run, again=True)\n",
                "",
            ),
        ),
        seeds=(28, 36),
        says="and never told",
    ),
    Breach(
        "every copy of a report told anew",
        "nothing lost",
        (
            Patch(
                "worker/otpost_worker/statuses.py",
                "    if known is not None:\n        if known.token != heard.token:\n            return _COPY\n"
                "        overruled =",
                "    if known is not None and known.token == heard.token:\n        overruled =",
            ),
        ),
        seeds=(13, 33),
        says="two different events have the id",
    ),
    Breach(
        "a failure that overrules a delivery",
        "what is told is true",
        (
            Patch(
                "worker/otpost_worker/statuses.py",
                "    overruled = _was_delivered(place)\n",
                "    overruled = False\n",
            ),
        ),
        seeds=(13, 33),
        says="was delivered, which was written down",
    ),
    Breach(
        "no check after an acceptance",
        "nothing lost",
        (
            Patch(
                "worker/otpost_worker/settling.py",
                "            await self._broker.watch(job_id, step.watch, step.watch.due_at - self._clock())\n",
                "            pass\n",
            ),
        ),
        seeds=(13, 33),
        says="and nobody was told",
    ),
)


def broken_copy(breach: Breach, folder: Path) -> Path:
    """Copy the tree into *folder* and break it there.

    :raises DoesNotFit: the code has changed; change the patch with it.
    """
    for part in _PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__", "fixtures"))
        else:
            shutil.copy(source, folder / part)
    for patch in breach.patches:
        file = folder / patch.file
        text = file.read_text(encoding="utf-8")
        if text.count(patch.old) != 1:
            raise DoesNotFit(f"{breach.name}: {patch.file} holds {text.count(patch.old)} times:\n{patch.old}")
        file.write_text(text.replace(patch.old, patch.new), encoding="utf-8")
    return folder


def found(breach: Breach, folder: Path, seed: int) -> str:
    """Play a short run in the broken copy in *folder*, and give what the checker printed; empty where it found nothing.

    :raises OtherTree: the run used another tree than the copy.
    """
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(str(folder / part) for part in ("producer", "worker", "tests", "tools"))
    }
    where = "import otpost_worker, chaos.run; print(otpost_worker.__file__, chaos.run.__file__)"
    told = _python("-c", where, environment=environment).stdout.split()
    if not all(Path(file).is_relative_to(folder) for file in told):
        raise OtherTree(f"{breach.name}: not the copy in {folder} was run, but {told}")
    orders = ("--short", "--runs", "1", "--seed", str(seed), "--ledger", "sqlite")
    done = _python("-m", "chaos", *orders, "--keep", str(folder / f"evidence-{seed}"), environment=environment)
    if done.returncode not in (0, 1) or "Traceback" in done.stderr:
        raise RuntimeError(f"{breach.name}, seed {seed}: the suite itself failed:\n{done.stdout}{done.stderr}")
    lines = [line for line in done.stdout.splitlines() if line.startswith(f"  {breach.promise}: ")]
    is_found = done.returncode == 1 and any(breach.says in line for line in lines)
    return done.stdout if is_found else ""


def _python(*arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=_RUN_S, check=False
    )


def main() -> int:
    """Break one promise after the other; 0 where each breach was found."""
    missed = 0
    for breach in BREACHES:
        with tempfile.TemporaryDirectory(prefix="otpost-broken-") as folder:
            copy = broken_copy(breach, Path(folder))
            seed = next((seed for seed in breach.seeds if found(breach, copy, seed)), None)
        missed += seed is None
        verdict = "NOT FOUND" if seed is None else f"found with seed {seed}"
        sys.stdout.write(f"{breach.name}: {verdict}\n")
        sys.stdout.flush()
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
