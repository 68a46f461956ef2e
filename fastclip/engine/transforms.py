"""What torch does to operators from outside: autograd, torch.func, forward mode, autocast.

Backward and derivatives of operators are registered here, once for autograd and torch.compile and
once, as an ``autograd.Function``, for the transforms of torch.func and for forward mode.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.autograd import forward_ad

from fastclip.engine.library import KERNELS, implement, library
from fastclip.engine.tensors import has_memory

_functions: dict[str, type[torch.autograd.Function]] = {}
_functions_of_operators: dict[str, str] = {}
_modes = torch._C._len_torch_dispatch_stack
_traced = torch._C._get_tracing_state  # by torch.jit.trace
_backward_task = torch._C._current_graph_task_id  # below 0 outside of a backward
_forward_mode = vars(forward_ad)  # holds the level that is entered, below 0 outside


def transformed() -> bool:
    """Whether a transform of torch.func or forward-mode differentiation is at work."""
    return (
        torch._C._functorch.maybe_current_level() is not None
        or _forward_mode["_current_level"] >= 0
    )


def watched() -> bool:
    """Whether a compiler, a mode such as make_fx's, a transform or forward mode is at work."""
    return torch.compiler.is_compiling() or _modes() > 0 or _traced() is not None or transformed()


def must_dispatch(*arguments: Any) -> bool:
    """Whether torch must see an operator: to trace or differentiate it, or for its subclasses.

    Otherwise its kernel may be called at once, which halves the time of the smallest calls.
    """
    # Gradients may come in batches that look like tensors (is_grads_batched), which torch splits.
    if watched() or _backward_task() >= 0:
        return True
    grad = torch.is_grad_enabled()
    for x in arguments:
        if type(x) is torch.Tensor:
            if (grad and x.requires_grad) or not has_memory(x):
                return True
        elif isinstance(x, torch.Tensor):
            return True
    return False


def call(name: str, *arguments: Any) -> Any:
    """Call an operator so that autograd, compilers and transforms see it."""
    if not must_dispatch(*arguments):
        return KERNELS[name](*arguments)
    if not torch.compiler.is_compiling() and transformed():
        if name not in _functions:
            raise NotImplementedError(
                f"fastclip.{_public(name)}: cannot be used within transforms of torch.func or "
                f"forward-mode differentiation; call it outside of them"
            )
        return _functions[name].apply(*arguments)
    return getattr(torch.ops.fastclip, name)(*arguments)


def _public(name: str) -> str:
    """Return the public function that the user has called."""
    return _functions_of_operators.get(name, name.removesuffix("_backward"))


@dataclass(frozen=True)
class Gradient:
    """The derivatives of an operator.

    ``backward`` and ``setup_context`` are those of ``torch.library.register_autograd``;
    ``jvp(ctx, *tangents)`` gives the tangents of the results.
    """

    backward: Callable[..., tuple[Any, ...]]
    setup_context: Callable[..., None]
    jvp: Callable[..., Any] | None = None


CONSTANT: Literal["constant"] = "constant"
"""Stands for the derivatives of an operator whose results have none."""


def define(
    schema: str,
    kernel: Callable[..., Any],
    empty: Callable[..., Any],
    gradient: Gradient | Literal["constant"] | None = None,
    function: str | None = None,
) -> None:
    """Define an operator that torch sees.

    Parameters
    ----------
    schema : str
        Of torch.library. ``screen`` is empty, or codes, bounds and center of packed keys;
        ``check_keys`` is False where keys are packed, and so known to be finite.
    kernel : callable
        Calls what the extension has for the device.
    empty : callable
        Allocates the results: what a compiler needs to know.
    gradient : Gradient or CONSTANT, optional
        Without, the operator refuses transforms of torch.func and forward mode.
    function : str, optional
        What messages call the operator by, where the user has called a function of another name.
    """
    name = schema.partition("(")[0]
    if function is not None:
        _functions_of_operators[name] = function
    library.define(schema)
    implement(name, kernel)
    torch.library.register_fake(f"fastclip::{name}", empty, lib=library)
    if isinstance(gradient, Gradient):
        _differentiable(name, gradient)
    elif gradient == CONSTANT:
        _constant(name)


def _differentiable(name: str, gradient: Gradient) -> None:
    setup_context, jvp = gradient.setup_context, gradient.jvp

    def in_full_precision(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        with torch._C._DisableAutocast():
            return gradient.backward(ctx, *grads)

    def tangents(ctx: Any, *of_inputs: Any) -> Any:
        assert jvp is not None
        with torch._C._DisableAutocast():
            return jvp(ctx, *of_inputs)

    torch.library.register_autograd(
        f"fastclip::{name}", in_full_precision, setup_context=setup_context, lib=library
    )
    _functions[name] = _function(name, in_full_precision, setup_context, jvp and tangents)


def once(name: str) -> Gradient:
    """Return how the operator that computes the gradients of ``name`` refuses to have any."""
    message = (
        f"fastclip.{name}: second derivatives are not implemented; where they are needed and the "
        f"scores fit into memory, use the formula of its docstring with torch's functions"
    )

    def refuse(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        raise NotImplementedError(message)

    return Gradient(refuse, lambda ctx, inputs, output: None)


def _constant(name: str) -> None:
    """Let an operator whose results have no derivatives be called under transforms."""

    def mark(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        results = output if isinstance(output, tuple) else (output,)
        ctx.mark_non_differentiable(*results)
        ctx.inputs, ctx.results = len(inputs), len(results)

    _functions[name] = _function(
        name,
        lambda ctx, *_: (None,) * ctx.inputs,
        mark,
        lambda ctx, *_: (None,) * ctx.results if ctx.results > 1 else None,
    )


def _function(
    name: str,
    backward: Callable[..., tuple[Any, ...]],
    setup_context: Callable[..., None],
    jvp: Callable[..., Any] | None,
) -> type[torch.autograd.Function]:
    operator = getattr(torch.ops.fastclip, name)

    def refuse(ctx: Any, *tangents: Any) -> Any:
        raise NotImplementedError(
            f"fastclip.{_public(name)}: forward-mode differentiation (torch.autograd.forward_ad; "
            f"jvp, jacfwd, hessian of torch.func) is not implemented; use reverse mode: "
            f"backward(), or grad, vjp, jacrev of torch.func"
        )

    def forward(*arguments: Any) -> Any:
        return operator(*arguments)

    def without_lists(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        # An autograd.Function takes lists of tensors for constants.
        found = backward(ctx, *grads)
        return tuple(None if isinstance(grad, list) else grad for grad in found)

    def one_by_one(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
        if info.batch_size == 0:
            raise NotImplementedError(
                f"fastclip.{_public(name)}: a batch of at least one is needed under torch.vmap"
            )
        found = [
            call(name, *_select(arguments, in_dims, place)) for place in range(info.batch_size)
        ]
        if not isinstance(found[0], tuple):
            return torch.stack(found), 0
        return tuple(map(torch.stack, zip(*found, strict=True))), (0,) * len(found[0])

    members = {
        "forward": forward,
        "setup_context": setup_context,
        "backward": without_lists,
        "jvp": jvp or refuse,
        "vmap": one_by_one,
    }
    members = {key: staticmethod(member) for key, member in members.items()}
    return type(name, (torch.autograd.Function,), members)


def _select(arguments: Any, dims: Any, place: int) -> Any:
    """Return the arguments of one of the calls that torch.vmap asks for."""
    if isinstance(arguments, (tuple, list)):
        dims = [None] * len(arguments) if dims is None else dims
        return [_select(x, dim, place) for x, dim in zip(arguments, dims, strict=True)]
    return arguments if dims is None else arguments.select(dims, place)
