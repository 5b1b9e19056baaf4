"""Identify signals as the user sent them: since MindSpore 2.8, a Ctrl-C reaches Python as a SIGTERM.

Every graph that MindSpore runs installs, from C, a SIGINT handler that sends a SIGTERM to the process. No option turns
this off, and Python does not tell a SIGTERM handler who sent the signal or why. Linux writes both on the stack on which
the handler runs, which is the alternate stack if there is one: a SIGTERM that arrived while SIGINT was blocked was sent
by a SIGINT handler. On Windows and macOS MindSpore installs no handler, and nothing is done here.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import struct
import sys
import threading
from types import FrameType
from typing import Any, Callable, Optional, Union

__all__ = ["as_sent", "die_of", "guard", "handle", "let_next_ctrl_c_end_it"]

Handler = Union[Callable[[int, Optional[FrameType]], Any], int, signal.Handlers, None]

# Linux ABI: the offset of the interrupted code's signal mask from the siginfo_t, by processor.
_SA_SIGINFO, _SA_ONSTACK, _SA_RESETHAND = 0x00000004, 0x08000000, 0x80000000
_SS_DISABLE = 2
_MASK_FROM_INFO = {"x86_64": -8, "aarch64": 168} if sys.platform == "linux" else {}
_stack = ctypes.create_string_buffer(1 << 16)  # never freed, because the kernel may write to it at any time


class _Action(ctypes.Structure):
    """The C library's struct sigaction."""

    _fields_ = [
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_byte * 128),
        ("flags", ctypes.c_uint),
        ("restorer", ctypes.c_void_p),
    ]


class _Stack(ctypes.Structure):
    """The C library's stack_t."""

    _fields_ = [("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


def handle(number: int, handler: Handler) -> Handler:
    """Install a handler like `signal.signal`, so that `as_sent` can identify the signal; return the earlier handler.

    At a terminal, a second SIGINT or SIGTERM that arrives before Python could call the handler, as during a long
    compilation, ends the process by its default action. Elsewhere it must not: schedulers send SIGTERM both to the
    process and to its group.
    """
    earlier = signal.signal(number, handler)
    if platform.machine() in _MASK_FROM_INFO:
        library, action = ctypes.CDLL(None), _Action()
        _alternate_stack()
        library.sigaction(number, None, ctypes.byref(action))
        is_last = number in (signal.SIGINT, signal.SIGTERM) and _is_at_terminal()
        action.flags |= _SA_SIGINFO | _SA_ONSTACK | (_SA_RESETHAND if is_last else 0)
        library.sigaction(number, ctypes.byref(action), None)
    return earlier


def as_sent(number: int) -> int:
    """Return the signal that was originally sent; call it in a handler set by `handle`, with the handler's `number`."""
    if number != signal.SIGTERM or platform.machine() not in _MASK_FROM_INFO:
        return number
    stack = _alternate_stack()
    content = ctypes.string_at(stack.start, stack.size)
    ctypes.memset(stack.start, 0, stack.size)  # so that it is not read twice
    info = struct.pack("=iii4xi", signal.SIGTERM, 0, 0, os.getpid())  # si_signo, si_errno, SI_USER, si_pid
    at = content.rfind(info)
    if at < 0:
        return number
    (mask,) = struct.unpack_from("=Q", content, at + _MASK_FROM_INFO[platform.machine()])
    return int(signal.SIGINT) if mask >> (signal.SIGINT - 1) & 1 else number


def let_next_ctrl_c_end_it() -> None:
    """Have the next Ctrl-C end the process, or in a session the running code, with `KeyboardInterrupt`."""
    signal.signal(signal.SIGINT, signal.default_int_handler if _is_session() else signal.SIG_DFL)


def die_of(number: int) -> None:
    """End the process by a signal's default action."""
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


def guard() -> Callable[[], None]:
    """Keep MindSpore from ending a session on Ctrl-C or a notebook's stop button; return a function to end the guard.

    A session is a notebook, IPython, or the Python prompt. During a run in a session, Ctrl-C raises
    `KeyboardInterrupt`, as it does without MindSpore, unless somebody has installed a handler. A script dies on Ctrl-C
    at once, as MindSpore intends. Ending the guard restores the SIGINT handler that Python knows of, in a script too.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    is_set = _is_session() and handlers == (signal.default_int_handler, signal.SIG_DFL)
    if is_set:
        handle(signal.SIGTERM, _interrupt)

    def end() -> None:
        if is_set and signal.getsignal(signal.SIGTERM) is _interrupt:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        of_sigint = signal.getsignal(signal.SIGINT)
        if of_sigint is not None:  # otherwise it was set from C before
            signal.signal(signal.SIGINT, of_sigint)

    return end


def _interrupt(number: int, frame: Optional[FrameType]) -> None:
    """Handle a SIGTERM as Python would handle the signal that was originally sent."""
    if as_sent(number) == signal.SIGINT:
        raise KeyboardInterrupt
    die_of(number)


def _alternate_stack() -> _Stack:
    """Return the stack for the main thread's handlers: the existing one, such as faulthandler's, or our own."""
    library, stack = ctypes.CDLL(None), _Stack()
    library.sigaltstack(None, ctypes.byref(stack))
    if stack.flags & _SS_DISABLE:
        stack = _Stack(ctypes.addressof(_stack), 0, len(_stack))
        library.sigaltstack(ctypes.byref(stack), None)
    return stack


def _is_session() -> bool:
    return hasattr(sys, "ps1")


def _is_at_terminal() -> bool:
    """Return whether a user at a terminal waits for this process and would lose no session with it."""
    return not _is_session() and os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
