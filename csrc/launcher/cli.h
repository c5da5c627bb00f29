/* SPDX-License-Identifier: Apache-2.0 */
/* nvidia-container-cli: print or apply what was kept of the same command line, or have Python run
 * it. Privileges: none; only root has anything kept. */
#pragma once

#include "self.h"

/* Returns the exit status, or not at all. */
int cli_run(const struct self *self, char *const *arguments);
