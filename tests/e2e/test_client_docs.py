"""The pages for users of the client: their programs run, or at least use what there is."""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

import otpost
from otpost import BlockingProducer, Producer, testing
from service import PATIENCE_S, declare_topology, running_service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker import Vhost

FOLDER: Final = Path(__file__).parents[2] / "docs/clients"
PAGES: Final = ("fastapi.md", "django.md", "script.md")
INSTALL_TIMEOUT_S: Final = 100


def programs(page: str) -> dict[str, str]:
    """The Python blocks of a page, by the file's name in their first line."""
    text = (FOLDER / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n# (\S+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) == text.count("```python\n"), "a block without a name"
    return dict(blocks)


ALL: Final = [(page, name) for page in PAGES for name in programs(page)]


def write(page: str, folder: Path) -> None:
    for name, source in programs(page).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(source, encoding="utf-8")


def clean_environment(**more: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("OTPOST_")} | more


def nodes(source: str, kind: type[Any]) -> Iterator[Any]:
    return (node for node in ast.walk(ast.parse(source)) if isinstance(node, kind))


@pytest.mark.parametrize(("page", "name"), ALL)
def test_every_name_that_a_program_takes_from_otpost_is_there(page: str, name: str) -> None:
    for statement in nodes(programs(page)[name], ast.ImportFrom):
        homes = {"otpost": otpost, "otpost.testing": testing}
        if statement.module in homes:
            names = {alias.name for alias in statement.names}
            assert names <= set(dir(homes[statement.module]))


@pytest.mark.parametrize(("page", "name"), ALL)
def test_every_call_of_a_producer_has_arguments_that_it_takes(page: str, name: str) -> None:
    kind = Producer if page == "fastapi.md" else BlockingProducer
    for call in nodes(programs(page)[name], ast.Call):
        match call.func:
            case ast.Attribute(value=ast.Name(id="producer"), attr=method):
                keywords = {keyword.arg: None for keyword in call.keywords}
                inspect.signature(getattr(kind, method)).bind(None, *call.args, **keywords)
            case _:
                pass


async def run(name: str, folder: Path, **environment: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", name),
        cwd=folder,
        env=clean_environment(**environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == 0, output.decode()
    return output.decode()


async def test_the_scripts_send_wait_and_read(vhost: Vhost, tmp_path: Path) -> None:
    write("script.md", tmp_path)
    async with running_service(vhost, tmp_path) as service:
        status, _, message_id = (await run("one.py", tmp_path, OTPOST_BROKER_URL=vhost.url)).partition(" ")
        assert (status, message_id[:6]) == ("accepted", "wamid.")
        assert await run("many.py", tmp_path, OTPOST_BROKER_URL=vhost.url) == "2 stored\n"
        for job_id in ("login-1", "login-2"):
            await service.wait_for_result(job_id, "accepted")
        lines = (await run("results.py", tmp_path, OTPOST_BROKER_URL=vhost.url)).splitlines()
    assert {line.strip() for line in lines[1:]} == {"login-1 accepted", "login-2 accepted"}
    assert lines[0].endswith(" accepted ")


async def test_the_scripts_own_test_needs_no_broker(tmp_path: Path) -> None:
    write("script.md", tmp_path)
    assert await run("own_test.py", tmp_path, OTPOST_BROKER_URL="amqp://127.0.0.1:1/") == ""


def framework(folder: Path, *packages: str) -> str:
    """Make an environment with a framework and this client, as its users have it; return its Python."""
    python = folder / "venv/bin/python"
    subprocess.run([sys.executable, "-m", "venv", python.parents[1]], check=True, timeout=INSTALL_TIMEOUT_S)
    install = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*install, str(FOLDER.parents[1]), *packages], check=True, timeout=INSTALL_TIMEOUT_S)
    return str(python)


def run_framework(python: str, folder: Path, *arguments: str, **environment: str) -> None:
    done = subprocess.run(
        [python, *arguments],
        cwd=folder,
        env=clean_environment(**environment),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_fastapi_service_passes_its_tests_and_publishes(vhost: Vhost, tmp_path: Path) -> None:
    python = framework(tmp_path, "fastapi", "httpx", "pytest")
    write("fastapi.md", tmp_path)
    asyncio.run(declare_topology(vhost, "default"))
    run_framework(python, tmp_path, "-m", "pytest", "-q", "test_app.py")
    script = """
from fastapi.testclient import TestClient
from app import app
with TestClient(app) as client:
    assert client.post("/sign-in", json={"phone": "+12015553931"}).status_code == 202
"""
    run_framework(python, tmp_path, "-c", script, OTPOST_BROKER_URL=vhost.url)
    assert vhost.ready_count("otpost.jobs.default") == 1


DJANGO_SETTINGS: Final = """
SECRET_KEY = "a test's own"
ALLOWED_HOSTS = ["testserver"]
INSTALLED_APPS = ["otp.apps.OtpConfig"]
MIDDLEWARE = ["otp.middleware.OtpErrors"]
ROOT_URLCONF = "otp.urls"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
"""


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_django_app_passes_its_tests_and_publishes(vhost: Vhost, tmp_path: Path) -> None:
    python = framework(tmp_path, "django")
    write("django.md", tmp_path)
    (tmp_path / "otp/__init__.py").touch()
    (tmp_path / "settings.py").write_text(DJANGO_SETTINGS, encoding="utf-8")
    asyncio.run(declare_topology(vhost, "default"))
    settings = {"DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": str(tmp_path)}
    run_framework(python, tmp_path, "-m", "django", "test", "otp", **settings)
    script = """
import django
django.setup()
from django.test import Client
assert Client().post("/sign-in", {"phone": "+12015553931"}).status_code == 202
"""
    run_framework(python, tmp_path, "-c", script, OTPOST_BROKER_URL=vhost.url, **settings)
    assert vhost.ready_count("otpost.jobs.default") == 1
