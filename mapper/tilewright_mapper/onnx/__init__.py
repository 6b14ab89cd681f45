# SPDX-License-Identifier: Apache-2.0
"""ONNX files: read, checked, and made into graphs."""
