"""`otpost schema`: prints one document, lists them, or writes them down."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import pytest

from command import otpost

FOLDER: Final = Path(__file__).parents[2] / "schemas"
FILES: Final = {
    "job": "otpost.job.v1.schema.json",
    "result": "otpost.result.v1.schema.json",
    "event": "otpost.event.v1.schema.json",
    "asyncapi": "asyncapi.json",
}


@pytest.mark.parametrize("name", FILES)
async def test_a_document_is_printed_as_it_stands_in_the_repository(name: str) -> None:
    printed = await otpost("schema", name)
    assert (printed.status, printed.err) == (0, "")
    assert printed.out == (FOLDER / FILES[name]).read_text(encoding="utf-8")


async def test_without_a_name_all_are_listed() -> None:
    listed = await otpost("schema")
    assert listed.status == 0
    assert [line.split()[2] for line in listed.out.splitlines()] == ["job", "result", "event", "asyncapi"]


async def test_with_json_all_are_one_object_and_a_named_one_is_itself() -> None:
    everything, one = await asyncio.gather(otpost("schema", "--json"), otpost("schema", "result", "--json"))
    (printed,) = everything.objects
    assert list(printed) == ["job", "result", "event", "asyncapi"]
    assert printed["job"]["$id"] == "urn:otpost:schema:otpost.job.v1"
    assert printed["asyncapi"]["asyncapi"] == "3.0.0"
    assert one.objects == [printed["result"]]


def written_to(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


async def test_all_are_written_into_a_folder(tmp_path: Path) -> None:
    written = await otpost("schema", "--dir", str(tmp_path / "new"))
    assert written.status == 0
    assert written_to(tmp_path / "new") == set(FILES.values())
    for name in FILES.values():
        assert (tmp_path / "new" / name).read_bytes() == (FOLDER / name).read_bytes()


async def test_one_is_written_into_a_folder(tmp_path: Path) -> None:
    written = await otpost("schema", "job", "--dir", str(tmp_path))
    assert written.out.split() == [str(tmp_path / "otpost.job.v1.schema.json")]
    assert written_to(tmp_path) == {"otpost.job.v1.schema.json"}


async def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    refused = await otpost("schema", "--dir", str(tmp_path / "file" / "below"))
    assert refused.status == 1
    assert f"cannot write to {tmp_path / 'file' / 'below'}" in refused.err
    assert "name another folder" in refused.err


async def test_an_unknown_document_is_misuse() -> None:
    refused = await otpost("schema", "jobs")
    assert refused.status == 2
    assert "'job', 'result', 'event', 'asyncapi'" in refused.err
