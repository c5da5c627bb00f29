/* SPDX-License-Identifier: Apache-2.0 */
/* The OCI runtime: what concerns no GPU goes to the low-level runtime at once. */
#pragma once

#include "self.h"

/* Replace the process by the low-level runtime or by Python. Returns only if both fail. */
int runtime_run(const struct self *self, char *const *arguments);
