"""What is asked of the processor and of oneDNN: an answer, or none, and never an error."""

from __future__ import annotations

import io

from ms_callbacks.core import machine


def test_the_library_is_found_in_a_folder_with_spaces(monkeypatch):
    """Or not at all, where its file has been replaced since; never an error."""
    line = "7f00-7f01 r-xp 00000000 fe:00 17    /home/me/my project/lib/libdnnl.so.3\n"
    opened = []
    monkeypatch.setattr(machine, "open", lambda *_, **__: io.StringIO(line), raising=False)
    monkeypatch.setattr(machine.ctypes, "CDLL", opened.append)
    machine.onednn()
    assert opened == ["/home/me/my project/lib/libdnnl.so.3"]
    monkeypatch.undo()
    monkeypatch.setattr(machine, "open", lambda *_, **__: io.StringIO(line), raising=False)
    assert machine.onednn() is None


def test_the_processors_flags_are_read_or_none():
    """A set of names on Linux, an empty set elsewhere."""
    assert all(name == name.strip() and " " not in name for name in machine.processor_flags())
