# SPDX-License-Identifier: Apache-2.0
"""Files that appear whole or not at all."""

import secrets
from collections.abc import Mapping
from pathlib import Path

__all__ = ["write_whole"]


def write_whole(files: Mapping[Path, bytes]) -> None:
    """Write files: first all of them beside their places, then each into its place at once.

    What stands there, and is no regular file (a device, a pipe), is written to as it is. Links are followed.

    Raises
    ------
    OSError
        If one cannot be written. Then nothing has changed, unless the system fails between two renames.
    """
    waiting: dict[Path, Path] = {}
    try:
        for path, data in files.items():
            if path.exists() and not path.is_file():
                path.write_bytes(data)
                continue
            place = path.resolve()
            waiting[place] = temporary = place.with_name(f".tilewright-{secrets.token_hex(8)}")
            with temporary.open("xb") as file:
                file.write(data)
        for place, temporary in waiting.items():
            temporary.replace(place)
    finally:
        for temporary in waiting.values():
            temporary.unlink(missing_ok=True)
