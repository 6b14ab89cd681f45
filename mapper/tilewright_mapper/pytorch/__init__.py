# SPDX-License-Identifier: Apache-2.0
"""PyTorch: quantizing models, and making graphs of quantized ones."""
