"""What the metrics on torchmetrics share: exact states, and updates that fail without a trace."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from fastclip.engine.ranks import Ranks

try:
    from torchmetrics import Metric
    from torchmetrics.utilities.distributed import gather_all_tensors
except ImportError as error:
    raise ImportError(
        "the metrics of fastclip.metrics that take data batch by batch (TagScorer, "
        "SegmentationScorer, RetrievalRecall, ...) need the package torchmetrics: "
        "pip install 'fastclip-kernels[metrics]'",
        name="torchmetrics",
    ) from error


class Scores(dict[str, torch.Tensor]):
    """Tensors by name, which are attributes, too: ``scores["iou"]`` is ``scores.iou``."""

    _vectors: tuple[str, ...] = ()
    """Those that stay 1-D with a single number, where torchmetrics takes the dimension away."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in self._vectors:
            self[name] = torch.atleast_1d(self[name])

    def __getattr__(self, name: str) -> torch.Tensor:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(
                f"{type(self).__name__!r} has no {name!r}, only {', '.join(self)}"
            ) from None


class ExactMetric(Metric):
    """A metric of torchmetrics whose states are counts, sums in float64, and rows as given.

    Beyond `torchmetrics.Metric`:

    - States change device, never dtype: ``half()``, ``set_dtype``, ``to(torch.bfloat16)`` and a
      module in half precision leave them as they are.
    - Ranks may have rows of different dtypes, or none at all.
    - An error in ``forward`` or ``compute`` leaves the state of before.
    - ``merge_state`` refuses states of another configuration, and drops the result that
      ``compute`` has kept.

    ``compute`` raises ValueError where nothing was given that counts; in ``forward``, which scores
    a single batch, the same is NaN, so that one batch does not end a training run.
    """

    is_differentiable = False
    full_state_update = False

    _constants: tuple[str, ...] = ()
    """States that are configuration: never changed, equal on all ranks. As states they keep
    `torchmetrics.MetricCollection` from taking two metrics for the same one by their first batch.
    """
    _scores_a_batch = False

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Plot the result, or results ``val`` of several steps."""
        return self._plot(val, ax)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Add a batch, and return the scores of this batch alone."""
        # Lists grow in place. Tensors are never changed in place, which would fail, too, on those
        # that were made in `torch.inference_mode`.
        before = {
            name: list(state) if isinstance(state, list) else state
            for name, state in self.metric_state.items()
        }
        updates, on_cpu = self._update_count, self.compute_on_cpu
        self._scores_a_batch = True
        try:
            return super().forward(*args, **kwargs)
        except BaseException:
            self._restore(before)
            self._update_count, self.compute_on_cpu = updates, on_cpu
            self._to_sync, self._should_unsync = self.sync_on_compute, True
            self._enable_grad = self._is_synced = False
            raise
        finally:
            self._scores_a_batch = False

    def reset(self) -> None:
        """Forget all data."""
        for name, default in self._defaults.items():
            if isinstance(default, list):  # the old one may be held by a wrapper, such as Running
                setattr(self, name, [])
        super().reset()

    def merge_state(self, incoming_state: dict[str, Any] | Metric) -> None:
        """Take the data of another metric of this class and configuration; it comes first."""
        updates = 1
        if isinstance(incoming_state, type(self)):
            updates = incoming_state.update_count
            incoming_state = incoming_state.metric_state
        if isinstance(incoming_state, dict):
            incoming_state = {
                name: [row.to(self.device) for row in self._as_list(state)]
                if isinstance(self._defaults.get(name), list)
                else state.to(self.device)
                for name, state in incoming_state.items()
            }
            self._check_mergeable(incoming_state)
        super().merge_state(incoming_state)
        self._computed = None
        self._update_count += updates

    @contextmanager
    def sync_context(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        """As of torchmetrics, but an error brings back the state of this rank, too."""
        try:
            with super().sync_context(*args, **kwargs):
                yield
        except BaseException:
            if self._cache is not None:
                self._restore(self._cache)
                self._cache, self._is_synced = None, False
            raise

    def _restore(self, states: dict[str, Any]) -> None:
        for name, state in states.items():
            setattr(self, name, state)

    def _check_mergeable(self, incoming: dict[str, Any]) -> None:
        for name in self._defaults:
            if name not in incoming:  # torchmetrics says so
                continue
            own, other = getattr(self, name), incoming[name]
            if isinstance(self._defaults[name], list):
                rows = [r for r in (*self._as_list(own), *other) if len(r)] or [torch.empty(0)]
                own, other = rows[0][:1], rows[-1][:1]
            if own.shape != other.shape or (name in self._constants and not own.equal(other)):
                raise ValueError(
                    f"incoming_state: {type(self).__name__} of one configuration is needed, "
                    f"but {name} differs: {_shown(other)}, here {_shown(own)}"
                )

    def _sync_dist(self, dist_sync_fn: Any = gather_all_tensors, process_group: Any = None) -> None:
        # A rank without rows has an empty 1-D tensor of the wrong dtype, on which the function of
        # torchmetrics hangs or fails.
        chosen = _gather if dist_sync_fn is gather_all_tensors else dist_sync_fn
        super()._sync_dist(chosen, process_group)

    def _apply(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        def moved(tensor: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = fn(tensor)
            return result if result.dtype == tensor.dtype else tensor.to(result.device)

        return super()._apply(moved, *args, **kwargs)

    def _keep(self, **rows: torch.Tensor) -> None:
        """Append copies to list states."""
        for name, tensor in rows.items():
            getattr(self, name).append(tensor.detach().to(self.device, copy=True))

    def _joined(self, name: str) -> torch.Tensor:
        """All rows of a list state; in the dtype that holds them all, if they differ."""
        rows = self._as_list(getattr(self, name))
        return torch.cat(rows) if rows else torch.empty(0, device=self.device)

    def _require(self, found: bool, message: str) -> None:
        """Raise where there is nothing to score, except of a single batch."""
        if not found and not self._scores_a_batch:
            raise ValueError(message)

    @staticmethod
    def _as_list(state: Any) -> list[torch.Tensor]:
        """A list state, which is one tensor after the states of ranks were joined."""
        return [state] if isinstance(state, torch.Tensor) else list(state)


def _gather(tensor: torch.Tensor, group: Any = None) -> list[torch.Tensor]:
    """The tensors of all ranks, which may differ in dtype and rows; those with any number."""
    flat = tensor if tensor.ndim in (1, 2) else tensor.reshape(-1)
    parts = [part for (part,) in Ranks(group).share(flat)]
    if flat is not tensor:
        return [part.view(tensor.shape) for part in parts]
    rows = [part for part in parts if part.numel()] or parts[:1]
    if len({part.shape[1:] for part in rows}) > 1:
        widths = ", ".join(str(part.shape[-1]) for part in rows)
        raise ValueError(f"update: rows must be as long on all ranks, got {widths}")
    return rows


def check_tensors(kind: str, allowed: Collection[torch.dtype], **tensors: Any) -> None:
    """Check that arguments are tensors of some dtypes."""
    for name, tensor in tensors.items():
        found = tensor.dtype if isinstance(tensor, torch.Tensor) else type(tensor).__name__
        if found not in allowed:
            raise TypeError(f"{name}: {kind} tensor is needed, got {found}")


def _shown(state: torch.Tensor) -> str:
    return str(state.tolist()) if state.numel() <= 8 else f"shape {tuple(state.shape)}"
