# SPDX-License-Identifier: Apache-2.0
"""TFLite files: read, checked, and made into graphs."""
