# SPDX-License-Identifier: Apache-2.0
"""The command line: ``tilewright COMMAND``.

Exit codes: 0 all went well; 1 it did not, with one line that says why, or a list of all that is wrong; 2 wrong usage;
70 an error that we did not foresee; 130 interrupted.
"""

import os
import sys
import warnings
from collections.abc import Sequence

__all__ = ["main"]

TRACEBACK = "TILEWRIGHT_TRACEBACK"
"""Set in the environment, errors are shown as Python has them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the result is the exit code. Whatever goes wrong is one line on the error stream."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        if not sys.warnoptions:
            # They are for those who write Python; and some come only when the interpreter ends.
            warnings.simplefilter("ignore")
        code = _run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = _complain("interrupted", 130)
    except BrokenPipeError:
        _abandon_output()
        return 1
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        code = _explain(error)
    return code


def _run(arguments: list[str]) -> int:
    # Imports wait until here, where a Ctrl-C in the middle of them is caught.
    from .parser import build_parser, doctor_parser

    if arguments[:1] == ["doctor"]:
        # Must work where nothing else does, so it gets by without the packages that the other commands import.
        from .doctor import main as doctor

        return doctor(as_json=doctor_parser().parse_args(arguments[1:]).json)
    from .commands import COMMANDS

    options = build_parser().parse_args(arguments)
    return COMMANDS[options.command](options)


def _explain(error: Exception) -> int:
    """Say what went wrong; the result is the exit code."""
    import errno
    import traceback
    from pathlib import Path

    text = _lines(str(error)) or type(error).__name__
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        # It may be the output stream itself, which the interpreter would flush once more.
        _abandon_output()
    if isinstance(error, MemoryError):
        return _complain(f"error: there is not enough memory: {text}", 1)
    if isinstance(error, ImportError):
        return _complain(f"error: {text}; `tilewright doctor` shows what is missing and how to install it", 1)
    # Our own errors derive from TilewrightError, a caller's slip is a ValueError or TypeError.
    from tilewright_hdl.errors import TilewrightError

    if isinstance(error, TilewrightError | ValueError | TypeError | OSError):
        return _complain(f"error: {text}", 1)
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}:{place.lineno}"
    return _complain(f"internal error: {type(error).__name__}: {text} ({where}); this is a defect of Tilewright: "
                     f"please report it, with what {TRACEBACK}=1 in the environment shows", 70)


def _lines(text: str) -> str:
    """A message in one line; only the items of a list keep their own."""
    from tilewright_hdl.errors import ITEM

    first, *items = text.split(ITEM)
    return ITEM.join(" ".join(part.split()) for part in (first, *items))


def _complain(text: str, code: int) -> int:
    print(f"tilewright: {text}", file=sys.stderr)
    return code


def _abandon_output() -> None:
    """Keep the interpreter from complaining when it flushes an output stream that nobody takes."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
