# SPDX-License-Identifier: Apache-2.0
"""ULX3S with an LFE5U-85F: twice the array of :mod:`.ulx3s_85f`, at a lower clock."""

import dataclasses

from .ulx3s_85f import BOARD as FAST

_NAME = "ulx3s-85f-16x16"

BOARD = dataclasses.replace(
    FAST,
    name=_NAME,
    config=dataclasses.replace(FAST.config, name=_NAME, array=dataclasses.replace(FAST.config.array, columns=16)),
    clock_hz=70_000_000,
    # Wires take most of the time here. Those of this placer are a fifth shorter than those of nextpnr's other one, with
    # which router1 was not through after 20 minutes.
    placer=("--placer", "static"),
)
