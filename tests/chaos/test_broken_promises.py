"""The checker finds each promise that is broken on purpose: who finds nothing in good code has to find it in bad."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chaos.break_promises import BREACHES, Breach, DoesNotFit, Patch, broken_copy, found

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("breach", BREACHES, ids=lambda breach: breach.name)
def test_every_patch_still_fits_the_code(breach: Breach, tmp_path: Path) -> None:
    broken_copy(breach, tmp_path)


def test_a_patch_that_does_not_fit_is_a_failure(tmp_path: Path) -> None:
    stale = Breach("stale", "nothing lost", (Patch("pyproject.toml", "no such line", ""),), seeds=(1,))
    with pytest.raises(DoesNotFit, match=r"stale: pyproject.toml holds 0 times"):
        broken_copy(stale, tmp_path)


@pytest.mark.long
@pytest.mark.timeout(2000)
@pytest.mark.parametrize("breach", BREACHES, ids=lambda breach: breach.name)
def test_the_checker_finds_a_promise_that_is_broken_on_purpose(breach: Breach, tmp_path: Path) -> None:
    copy = broken_copy(breach, tmp_path)
    assert any(found(breach, copy, seed) for seed in breach.seeds), f"nobody noticed: {breach.name}"
