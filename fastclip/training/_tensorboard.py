"""The log of a run for TensorBoard."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path


class TensorBoardLog:
    """Scalars ``training/...`` and ``validation/...`` in a folder of its own.

    The folder begins empty and is given all rows of the log: a resumed run leaves
    neither gaps nor what was logged after its last checkpoint.

    Raises
    ------
    ImportError
        The package tensorboard is missing.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError(
                "tensorboard: needs the package tensorboard: "
                "pip install 'fastclip-kernels[training]'",
                name="tensorboard",
            ) from error
        shutil.rmtree(folder, ignore_errors=True)
        self._writer = SummaryWriter(str(folder))
        self._written = {"training": 0, "validation": 0}

    def write(
        self, log: Sequence[Mapping[str, float]], validations: Sequence[Mapping[str, float]]
    ) -> None:
        """Add the rows that are new since the last call."""
        for kind, rows in (("training", log), ("validation", validations)):
            for row in rows[self._written[kind] :]:
                for name in row.keys() - {"step"}:
                    self._writer.add_scalar(f"{kind}/{name}", row[name], int(row["step"]))
            self._written[kind] = len(rows)
        self._writer.flush()
