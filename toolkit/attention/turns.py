"""One generation at a time."""

from __future__ import annotations

import threading

from toolkit.errors import Refused

__all__ = ["Turns"]


class Turns:
    """Notices when two threads use one model at the same time. Threads may use it one after the other.

    A forward pass while another thread is in one is refused; so is a step of decoding whose prompt is not the last one seen.
    """

    def __init__(self) -> None:
        self.running = False
        self._lock = threading.Lock()
        self._thread: int | None = None

    @property
    def mine(self) -> bool:
        """Whether this thread is in a forward pass."""
        return self.running and self._thread == threading.get_ident()

    def take(self, *, prompt: bool) -> None:
        """Begin a forward pass, of a prompt or of a step of decoding. Raises: Refused."""
        me = threading.get_ident()
        with self._lock:
            # A thread that has ended, by an interrupt for example, is not running any more.
            alive = self._thread in {thread.ident for thread in threading.enumerate()}
            if self.running and self._thread != me and alive:
                raise Refused(
                    "this patched model is running in another thread", hint="one model per thread, or one generation after the other"
                )
            if not prompt and self._thread not in (None, me):
                raise Refused(
                    "another thread has begun a generation with this patched model meanwhile",
                    hint="one model per thread, or one generation after the other",
                )
            self.running, self._thread = True, me

    def give_back(self) -> None:
        """The forward pass of this thread is over. Of another thread: nothing happens, it is still running."""
        if self._thread == threading.get_ident():
            self.running = False

    def reset(self) -> None:
        """No generation any more."""
        self.running, self._thread = False, None
