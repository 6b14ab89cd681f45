# SPDX-License-Identifier: Apache-2.0
"""The demo: handwriting, from training to the hardware."""
