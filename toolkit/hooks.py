"""Reading and editing what passes through a frozen model. The one place that registers hooks.

>>> with HookSession(model) as session:                        # doctest: +SKIP
...     blocks = session.read("vision.block:-1")
...     model(pixels)
>>> blocks.last.shape                                          # doctest: +SKIP
torch.Size([1, 145, 384])
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, TypeVar

from torch import Tensor, nn

from toolkit.errors import ShapeError, UsageError
from toolkit.sites import Site, SiteMap, module_of

T = TypeVar("T")
Action = Callable[[Tensor], Tensor | None]
Inputs = tuple[tuple[Any, ...], dict[str, Any]]

__all__ = ["Captured", "HookSession", "aside", "is_aside"]


_here = threading.local()


@contextlib.contextmanager
def aside() -> Iterator[None]:
    """Within it, and in this thread, models run as if no session of ours were on them: for a second pass within a first one."""
    before, _here.aside = is_aside(), True
    try:
        yield
    finally:
        _here.aside = before


def is_aside() -> bool:
    """Whether this thread is in a block of ``aside``."""
    return getattr(_here, "aside", False)


class Captured:
    """What passed one site: one detached copy for each call of its module, oldest first."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []

    @property
    def last(self) -> Tensor:
        """The newest one. Raises: UsageError: if the module was not called."""
        if not self.tensors:
            raise UsageError("nothing was captured: the module of this site has not been called")
        return self.tensors[-1]

    def clear(self) -> None:
        self.tensors.clear()

    def __len__(self) -> int:
        return len(self.tensors)

    def __getitem__(self, index: int) -> Tensor:
        return self.tensors[index]

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.tensors)


class _Stop(BaseException):
    """Leaves a forward pass early. Not an Exception: no ``except Exception`` on the way out may take it for a failure."""

    def __init__(self, session: HookSession) -> None:
        super().__init__("a forward pass was stopped outside of the session that asked for it")
        self.session = session


class HookSession:
    """Hooks that live as long as a ``with`` block and are gone after it, however it ends.

    ``read``, ``edit``, ``before``, ``after`` and ``stop_after`` may be called before the block (they are armed when it begins) or
    in it. Actions on one site happen in the order of the calls; stopping comes last. Only own hooks are removed; others stay as
    they are. A session can be used for several blocks one after the other, not for two at once.

    Args:
        model: nn.Module, or an encoder or answerer that holds one.
        sites: the sites of the model, if they are known already.
    """

    def __init__(self, model: object, *, sites: SiteMap | None = None) -> None:
        self.model = module_of(model)
        self._sites = sites
        self._taps: dict[nn.Module, _Tap] = {}
        self._open = False

    def read(self, site: Site | str, *, cpu: bool = False) -> Captured:
        """Keep a detached copy of what the module at ``site`` returns, at every call.

        Args:
            cpu: move the copies to the CPU.
        Returns: the list that fills while the model runs. Of several outputs the first tensor is kept.
        Raises: SiteNotFound.
        """
        captured = Captured()

        def keep(output: Tensor) -> None:
            # A copy: what follows in the model may write into its input (residual sums, activations in place).
            captured.tensors.append(output.detach().to("cpu" if cpu else output.device, copy=True))

        self._add(site, actions=keep)
        return captured

    def edit(self, site: Site | str, function: Callable[[Tensor], Tensor]) -> None:
        """Replace what the module at ``site`` returns by ``function`` of it; of several outputs, the first tensor.

        The result must have the same shape, dtype and device; otherwise the forward pass raises ShapeError.
        Raises: SiteNotFound.
        """
        name = str(site)

        self._add(site, actions=lambda output: _edited(output, function, f"an edit at {name}"))

    def before(self, site: Site | str, function: Callable[[tuple[Any, ...], dict[str, Any]], Inputs | None]) -> None:
        """Call ``function(args, kwargs)`` with what the module at ``site`` is called with; it may return new ones, or None.

        Raises: SiteNotFound.
        """
        self._add(site, inputs=function)

    def edit_input(self, site: Site | str, function: Callable[[Tensor], Tensor]) -> None:
        """Replace the first tensor that the module at ``site`` is called with by ``function`` of it.

        The result must have the same shape, dtype and device; otherwise the forward pass raises ShapeError.
        Raises: SiteNotFound.
        """
        name = str(site)

        def replace(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Inputs:
            place = next((index for index, value in enumerate(args) if isinstance(value, Tensor)), None)
            key = next((key for key, value in kwargs.items() if isinstance(value, Tensor)), None)
            if place is not None:
                return (*args[:place], _edited(args[place], function, f"an edit before {name}"), *args[place + 1 :]), kwargs
            if key is not None:
                return args, {**kwargs, key: _edited(kwargs[key], function, f"an edit before {name}")}
            raise ShapeError(f"the module at {name} was called without a tensor")

        self._add(site, inputs=replace)

    def after(self, site: Site | str, function: Callable[[Any], None], *, always: bool = False) -> None:
        """Call ``function(output)`` with all that the module at ``site`` returns, after the edits of this session.

        Args:
            always: also when the module raised an exception; ``output`` is then None. Not for an interrupt, and not for a stop.
        Raises: SiteNotFound.
        """
        self._add(site, observers=function, always=always)

    def stop_after(self, site: Site | str) -> None:
        """Compute nothing behind ``site``. The forward pass then returns nothing: wrap it in ``run``, or let it end the block.

        Raises: SiteNotFound.
        """
        self._add(site, stop=self)

    def run(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T | None:
        """``function(*args, **kwargs)``; None if it was stopped by ``stop_after`` of this session."""
        try:
            return function(*args, **kwargs)
        except _Stop as stop:
            if stop.session is not self:
                raise
            return None

    def close(self) -> None:
        """Remove all hooks of this session. What was read stays."""
        self._open = False
        for tap in self._taps.values():
            tap.remove()

    def __enter__(self) -> HookSession:
        if self._open:
            raise UsageError("this HookSession is open already", hint="use a second HookSession for a block within the block")
        self._open = True
        try:
            for tap in self._taps.values():
                tap.register()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        self.close()
        return isinstance(error, _Stop) and error.session is self

    def _add(self, site: Site | str, *, always: bool = False, **actions: Any) -> None:
        """Put every value into the list of that name of the tap at ``site``."""
        if self._sites is None:
            self._sites = SiteMap(self.model)
        module = self._sites.resolve(site)
        tap = self._taps.setdefault(module, _Tap(self, module))
        tap.always = tap.always or always
        for name, action in actions.items():
            getattr(tap, name).append(action)
        if self._open:
            tap.register()


class _Tap:
    """The hooks of a session on one module: one on its outputs, and one on its inputs where something asks for them."""

    def __init__(self, session: HookSession, module: nn.Module) -> None:
        self.session = session
        self.module = module
        self.inputs: list[Callable[[tuple[Any, ...], dict[str, Any]], Inputs | None]] = []
        self.actions: list[Action] = []
        self.observers: list[Callable[[Any], None]] = []
        self.stop: list[HookSession] = []
        self.always = False
        self.entry = _Entry(self)

    def register(self) -> None:
        """Put in place what is needed and not there yet: a model that is only read keeps its inputs untouched."""
        if self.inputs and self.entry not in self.module._forward_pre_hooks.values():
            self.module.register_forward_pre_hook(self.entry, with_kwargs=True)
        if (self.actions or self.observers or self.stop) and self not in self.module._forward_hooks.values():
            self.module.register_forward_hook(self, always_call=self.always)

    def remove(self) -> None:
        # By identity and not by the handle: an interrupt can come after the hook is in place and before the handle is kept.
        for hooks, ours in ((self.module._forward_pre_hooks, self.entry), (self.module._forward_hooks, self)):
            for key in [key for key, hook in hooks.items() if hook is ours]:
                del hooks[key]
                self.module._forward_pre_hooks_with_kwargs.pop(key, None)
                self.module._forward_hooks_always_called.pop(key, None)

    def __call__(self, module: nn.Module, args: object, output: Any) -> Any:
        if is_aside():
            return None
        changed = self._edit(output) if self.actions and not (self.always and output is None) else None
        for observe in self.observers:
            observe(output if changed is None else changed)
        if self.stop:
            raise _Stop(self.session)
        return changed

    def _edit(self, output: Any) -> Any:
        tensor = first = _first_tensor(output)
        for action in self.actions:
            changed = action(tensor)
            tensor = tensor if changed is None else changed
        return None if tensor is first else _with_first(output, tensor)


class _Entry:
    """The hook of a tap on the inputs of its module."""

    def __init__(self, tap: _Tap) -> None:
        self.tap = tap

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Inputs | None:
        changed: Inputs | None = None
        if is_aside():
            return None
        for function in self.tap.inputs:
            changed = function(*(changed or (args, kwargs))) or changed
        return changed


def _edited(value: Tensor, function: Callable[[Tensor], Tensor], what: str) -> Tensor:
    result = function(value)
    if not isinstance(result, Tensor) or (result.shape, result.dtype, result.device) != (value.shape, value.dtype, value.device):
        raise ShapeError(f"{what} gave {_describe(result)}; expected {_describe(value)}")
    return result


def _first_tensor(output: Any) -> Tensor:
    if isinstance(output, Tensor):
        return output
    items = output.values() if isinstance(output, Mapping) else output if isinstance(output, (tuple, list)) else ()
    tensor = next((item for item in items if isinstance(item, Tensor)), None)
    if tensor is None:
        raise ShapeError(f"a module returned {_describe(output)}; expected a tensor, or a tuple or mapping with one")
    return tensor


def _with_first(output: Any, tensor: Tensor) -> Any:
    """``output`` with its first tensor replaced, in a container of the same kind."""
    if isinstance(output, Tensor):
        return tensor
    if isinstance(output, Mapping):
        items = dict(output)
        items[next(key for key, item in items.items() if isinstance(item, Tensor))] = tensor
        return type(output)(**items)
    items_list = list(output)
    items_list[next(index for index, item in enumerate(items_list) if isinstance(item, Tensor))] = tensor
    return type(output)(*items_list) if hasattr(output, "_fields") else type(output)(items_list)


def _describe(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)} on {value.device}"
    return f"a {type(value).__name__}"
