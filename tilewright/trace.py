# SPDX-License-Identifier: Apache-2.0
"""Write a profile as a Chrome/Perfetto trace, one track per engine."""

import json
from pathlib import Path

from tilewright_driver.profile import Profile
from tilewright_sim.profile_trace import trace_events

from .output import write_text

__all__ = ["write_trace"]


def write_trace(path: Path, profile: Profile) -> None:
    """Write the last image's instructions; one microsecond in the viewer is one cycle."""
    events = []
    for step in profile.steps:
        names = [profile.layers[layer].name for layer in step.layer_of]
        events += trace_events(step.records, names, offset=step.offset)
    write_text(path, json.dumps({"traceEvents": events}))
