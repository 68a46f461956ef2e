"""What scikit-learn expects of an estimator, so that its tools take ours."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self


class Estimator:
    """Parameters by name, as given to the constructor."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's parameters; ``deep`` changes nothing."""
        return {name: getattr(self, name) for name in self._names()}

    def set_params(self, **params: Any) -> Self:
        """Set parameters by name.

        Raises
        ------
        ValueError
            There is no such parameter.
        """
        for name, value in params.items():
            if name not in self._names():
                raise ValueError(f"{name}: no such parameter, allowed: {', '.join(self._names())}")
            setattr(self, name, value)
        return self

    def check_fitted(self, attribute: str) -> None:
        if not hasattr(self, attribute):
            raise ValueError(f"{type(self).__name__} is not fitted, call fit first")

    def __repr__(self) -> str:
        params = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"{type(self).__name__}({params})"

    @classmethod
    def _names(cls) -> list[str]:
        return [name for name in inspect.signature(cls.__init__).parameters if name != "self"]
