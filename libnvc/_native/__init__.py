# SPDX-License-Identifier: Apache-2.0
"""The bridge to the C core: the only user of `libnvc._core`, one module a topic."""
