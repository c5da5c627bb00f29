/* SPDX-License-Identifier: Apache-2.0 */
/* The OCI hook. `create-runtime PLANFILE ROOTFS` applies what a static document cannot say, all or
 * nothing, without an interpreter; whatever else is Python's. Privileges: see nvc_apply.h. */
#pragma once

#include "self.h"

/* Returns the exit status. */
int hook_run(const struct self *self, char *const *arguments);

/* The hooks of CDI files: what is kept of them, and Python for the rest. Changes the arguments. */
int hook_run_cdi(const struct self *self, char **arguments);
