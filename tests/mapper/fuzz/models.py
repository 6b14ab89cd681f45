# SPDX-License-Identifier: Apache-2.0
"""The fuzz run of ``fuzz_judge`` for any number of files::

python -m tests.mapper.fuzz.models tflite --count 5000 --seed 1
python -m tests.mapper.fuzz.models onnx --count 5000 --seed 1
"""

import argparse
import sys
import time
from pathlib import Path

__all__ = ["main"]


def main() -> int:
    """Judge damaged files, print what came of them; 1 if one failed."""
    # The processes of the frameworks import this module again, and have no use for all of these.
    from .frameworks import ONNX, TFLITE
    from .judge import run

    frameworks = {"tflite": TFLITE, "onnx": ONNX}
    parser = argparse.ArgumentParser(description="Damaged model files against the importers and their frameworks.")
    parser.add_argument("framework", choices=frameworks)
    parser.add_argument("files", type=Path, nargs="*", help="good models to damage, in place of the small ones")
    parser.add_argument("--count", type=int, default=5000, help="how many files")
    parser.add_argument("--seed", type=int, default=1, help="of the random damages")
    parser.add_argument("--keep", type=Path, help="folder for files that fail")
    arguments = parser.parse_args()
    models = {path.name: path.read_bytes() for path in arguments.files} or None
    start = time.monotonic()
    framework = frameworks[arguments.framework]
    counts, failures = run(framework, arguments.seed, arguments.count, models, keep=arguments.keep)
    print("\n".join(failures))
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
    print(f"{arguments.count} files in {time.monotonic() - start:.0f} s: {outcomes}, {len(failures)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
