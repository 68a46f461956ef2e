"""How the authors' own programs are run here: modules of their checkouts, and made-up features."""

from __future__ import annotations

import importlib
import importlib.util
import io
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import torch
import torch.nn.functional as F

Rows = dict[str, tuple[float, float]]
"""Of each figure, ours and theirs."""


def stand_in(*names: str, **attributes: Any) -> None:
    """Let these modules be imported, with these attributes and any others."""
    for name in names:
        module = MagicMock(name=name, __path__=[], __spec__=ModuleSpec(name, None))
        for key, value in attributes.items():
            setattr(module, key, value)
        sys.modules[name] = module


def theirs(root: Path, name: str) -> ModuleType:
    """A module of a checkout, by the name under which their programs import it."""
    sys.path.insert(0, str(root))
    return importlib.import_module(name)


def from_file(path: Path) -> ModuleType:
    """A module by its file, without the package around it."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def as_they_expect() -> None:
    """Their programs ask for a GPU at every turn, and for NumPy before 2.4."""
    if not torch.cuda.is_available():
        torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign, assignment]
    real = torch.Tensor.numpy

    def numpy(self: torch.Tensor) -> Any:
        """``float`` took arrays of one element then."""
        return real(self).squeeze() if self.numel() == 1 else real(self)

    torch.Tensor.numpy = numpy  # type: ignore[method-assign, assignment]


def unit(rows: torch.Tensor) -> torch.Tensor:
    return F.normalize(rows, dim=-1)


def cone(count: int, width: int) -> torch.Tensor:
    """Unit rows about one direction, as CLIP's features are."""
    return unit(torch.randn(count, width) + 1.5)


def labelled(centres: torch.Tensor, labels: torch.Tensor, noise: float) -> torch.Tensor:
    """Images about the texts of their classes."""
    away = torch.randn(len(labels), centres.shape[1]) / centres.shape[1] ** 0.5
    return unit(centres[labels] + noise * away)


class Embedded(torch.nn.Module):
    """A model whose inputs are features already."""

    logit_scale = torch.tensor(100.0).log()

    def encode_image(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.clone()

    encode_text = encode_image


def by_worst(what: str, own: torch.Tensor, other: torch.Tensor) -> Rows:
    """The elements that differ most."""
    worst = (own.double() - other.double()).abs().argmax()
    pair = float(own.flatten()[worst]), float(other.flatten()[worst])
    return {f"{what}: worst of {own.numel():,}": pair}


def accuracy(classes: torch.Tensor, labels: torch.Tensor) -> float:
    return float((classes == labels).double().mean())


def number(text: str, before: str) -> float:
    found = re.search(before + r"(-?[\d.]+\d)", text)
    assert found is not None, text
    return float(found[1])


@contextmanager
def caught() -> Iterator[io.StringIO]:
    """What is printed; files may be hung onto stdout, as theirs do."""
    with redirect_stdout(io.StringIO()) as said:
        yield said
