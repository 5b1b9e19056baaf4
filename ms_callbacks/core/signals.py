"""Signals as the user sent them: from MindSpore 2.8 on, a Ctrl-C reaches Python as a SIGTERM.

Every graph that MindSpore runs sets, from C, a SIGINT handler that sends the process a SIGTERM. No option turns that
off, and Python tells a handler of SIGTERM neither who sent it nor why. Linux writes both on the stack on which the
handler runs, and for that it takes the alternate stack, where there is one: a SIGTERM that came while SIGINT was
blocked came out of a handler of SIGINT. On Windows and macOS MindSpore sets no handler, and nothing is done here.
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

# What Linux defines; where the signal mask of the code that was interrupted lies, from the siginfo_t, by processor.
_SA_SIGINFO, _SA_ONSTACK, _SA_RESETHAND = 0x00000004, 0x08000000, 0x80000000
_SS_DISABLE = 2
_MASK_FROM_INFO = {"x86_64": -8, "aarch64": 168} if sys.platform == "linux" else {}
_stack = ctypes.create_string_buffer(1 << 16)  # kept for ever, for the kernel may write to it at any time


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
    """Sets a handler as `signal.signal` does, so that `as_sent` can tell; returns the earlier one.

    At a terminal, a second SIGINT or SIGTERM that comes before Python could call the handler, as in a long compilation,
    ends the process by its default action. Elsewhere it must not: schedulers send SIGTERM to the process and its group.
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
    """The signal that was sent to the process, in a handler that `handle` has set and that is called with `number`."""
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
    """Has the next Ctrl-C end the process, or in a session what runs, by `KeyboardInterrupt`."""
    signal.signal(signal.SIGINT, signal.default_int_handler if _is_session() else signal.SIG_DFL)


def die_of(number: int) -> None:
    """Ends the process by a signal's default action."""
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


def guard() -> Callable[[], None]:
    """Keeps MindSpore from ending a session at Ctrl-C or a notebook's stop button; returns what ends the guard.

    A session is a notebook, IPython, or Python's prompt. There, during a run, Ctrl-C raises `KeyboardInterrupt`, as it
    does without MindSpore, unless somebody has set a handler. A script dies at Ctrl-C at once, as MindSpore has it.
    The end of the guard puts the handler of SIGINT back that Python knows of, in a script too.
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
        if of_sigint is not None:  # else it was set from C before
            signal.signal(signal.SIGINT, of_sigint)

    return end


def _interrupt(number: int, frame: Optional[FrameType]) -> None:
    """Does with a SIGTERM what Python would do with the signal that was sent."""
    if as_sent(number) == signal.SIGINT:
        raise KeyboardInterrupt
    die_of(number)


def _alternate_stack() -> _Stack:
    """The stack on which the main thread's handlers run; the one that is there, such as faulthandler's, or our own."""
    library, stack = ctypes.CDLL(None), _Stack()
    library.sigaltstack(None, ctypes.byref(stack))
    if stack.flags & _SS_DISABLE:
        stack = _Stack(ctypes.addressof(_stack), 0, len(_stack))
        library.sigaltstack(ctypes.byref(stack), None)
    return stack


def _is_session() -> bool:
    return hasattr(sys, "ps1")


def _is_at_terminal() -> bool:
    """Whether somebody at a terminal waits for this process, and would lose no session with it."""
    return not _is_session() and os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
