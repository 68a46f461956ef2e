"""A training that is killed on its way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fastclip.training import loop


class Killed(Exception):
    pass


def dies_at(number: int, run: Callable[[], object]) -> None:
    """Call ``run``, whose training ends before its step ``number``, from 0."""
    step = loop._Run.take_step

    def dies(self: Any, batch: Any) -> Any:
        if self.step == number:
            raise Killed
        return step(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop._Run, "take_step", dies)
        with pytest.raises(Killed):
            run()
