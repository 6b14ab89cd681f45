# SPDX-License-Identifier: Apache-2.0
"""Settings of all tests."""

import signal

from hypothesis import settings

# The same examples in each run, so that a red test stays red; no deadline, since the first example builds a simulator.
settings.register_profile("tilewright", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("tilewright")

# A shell makes what it starts in the background ignore Ctrl-C, and so all that the tests start, which some interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
