# SPDX-License-Identifier: Apache-2.0
"""Configuration of container engines: what `nvidia-ctk runtime configure` writes."""
