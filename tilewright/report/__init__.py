# SPDX-License-Identifier: Apache-2.0
"""``tilewright report``: one page of HTML about a program, for those who design the accelerator or the network."""

from .page import report_page

__all__ = ["report_page"]
