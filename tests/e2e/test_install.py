"""The light client and the whole service are one distribution."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import otpost

ROOT = Path(__file__).parents[2]

PUBLIC = "otpost-public:s9RvziSHlyiZRqUdFYEkK+H9FRZGGRDQzfj89UzgYlo="
WORKERS_OWN = ("aiohttp", "click", "prometheus_client", "rich", "structlog", "uvloop")


def run_python(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)


def loaded_by(statement: str) -> set[str]:
    """The packages that a program has in memory after this statement."""
    done = run_python(f"{statement}; import sys; print(*{{name.split('.')[0] for name in sys.modules}})")
    assert (done.returncode, done.stderr) == (0, "")
    return set(done.stdout.split())


def test_importing_all_of_the_client_loads_none_of_the_workers_packages() -> None:
    loaded = loaded_by("from otpost import *; import otpost.testing; assert Producer and BlockingProducer and OtpJob")
    assert {"aio_pika", "pydantic"} <= loaded
    assert not {*WORKERS_OWN, "otpost_worker"} & loaded


@pytest.mark.parametrize(
    ("statement", "spared"),
    [
        ("import otpost", {"aio_pika", "aiormq", "asyncio", "pydantic", "nacl"}),
        ("from otpost import OtpJob, OtpResult, OtpostError", {"aio_pika", "aiormq", "asyncio", "nacl"}),
        ("from otpost.testing import RecordingProducer", {"aio_pika", "aiormq", "nacl"}),
        ("from otpost import Producer, PublicKey; Producer('amqp://x')", {"nacl"}),
        (f"from otpost import PublicKey; PublicKey.parse('{PUBLIC}')", {"aio_pika", "pydantic", "nacl"}),
    ],
)
def test_what_is_not_asked_for_is_not_loaded(statement: str, spared: set[str]) -> None:
    assert not spared & loaded_by(statement)


def test_every_name_that_the_package_offers_is_there_and_no_other() -> None:
    assert set(otpost.__all__) <= set(dir(otpost))
    assert [name for name in otpost.__all__ if getattr(otpost, name, None) is None] == []
    with pytest.raises(AttributeError, match="module 'otpost' has no attribute 'Prodcuer'"):
        _ = otpost.Prodcuer  # type: ignore[attr-defined] # a typing error, as people make it


def test_the_wheel_carries_the_mark_of_a_typed_package(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    [wheel] = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"otpost/py.typed", "otpost/blocking.py", "otpost_worker/app.py"} <= set(names)


def test_the_command_without_the_extra_says_in_one_line_what_is_missing() -> None:
    # None in sys.modules is how Python is told that a package is not there.
    missing = f"import sys; sys.modules.update(dict.fromkeys({WORKERS_OWN!r}))"
    ended = run_python(f"{missing}; from otpost.__main__ import main; sys.exit(main())")
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr == (
        "otpost: the package 'click' is missing; "
        'the command line comes with the worker: pip install "otpost[worker]"\n'
    )


@pytest.mark.parametrize(
    "statement",
    [
        f"Producer('amqp://x', public_key='{PUBLIC}')",
        f"BlockingProducer('amqp://x', public_key='{PUBLIC}')",
        f"OtpJob(to='+12015553931', code='493817').sealed('{PUBLIC}')",
    ],
)
def test_sealing_without_its_package_says_in_one_line_what_to_install(statement: str) -> None:
    ended = run_python(f"import sys; sys.modules['nacl'] = None; from otpost import *; {statement}")
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == (
        'otpost.errors.SealingUnavailable: sealing codes needs the package PyNaCl: pip install "otpost[sealed]"'
    )
