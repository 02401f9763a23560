"""Objects that must never be freed, because freeing them would break something that is still in use.

When Python ends it frees modules, and empties them, before many of the objects that need them: whatever something holds
that outlives the modules, such as a hook of `sys` or a handler of logging that refers to the globals of a script.
"""

from __future__ import annotations

import ctypes
from typing import Any

_increase: Any = ctypes.pythonapi.Py_IncRef
_as_argument: Any = ctypes.py_object


def leak(immortal: object, increase: Any = _increase, as_argument: Any = _as_argument) -> None:
    """Keep an object, and what it refers to, until the process has ended. Works while modules are emptied, too."""
    increase(as_argument(immortal))
