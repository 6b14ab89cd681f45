# SPDX-License-Identifier: Apache-2.0
"""The process of one bench: ``python -m tilewright_sim.bench_host LIBRARY [ARGUMENT ...]``.

Loads a simulator that :func:`tilewright_sim.cocotb_bench.build_bench` built and runs it in this interpreter.
"""

import ctypes
import os
import sys

from .cocotb_bench import ENTRY

__all__ = ["main"]


def main(arguments: list[str]) -> None:
    """Run the simulator. Does not return: the simulator ends the process."""
    # cocotb calls Python from the simulator, so we keep the interpreter's lock while it runs.
    library = ctypes.PyDLL(arguments[0], mode=os.RTLD_GLOBAL | os.RTLD_NOW)
    texts = [argument.encode() for argument in arguments]
    getattr(library, ENTRY)(len(texts), (ctypes.c_char_p * (len(texts) + 1))(*texts, None))


if __name__ == "__main__":
    main(sys.argv[1:])
