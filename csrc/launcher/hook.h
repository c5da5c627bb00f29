/* SPDX-License-Identifier: Apache-2.0 */
/* The OCI hook. `create-runtime PLANFILE ROOTFS` applies what a static document cannot say, all or
 * nothing, without an interpreter; whatever else is Python's. Privileges: see nvc_apply.h. */
#pragma once

#include "self.h"

/* Returns the exit status. */
int hook_run(const struct self *self, char *const *arguments);

/* The hooks of CDI files, which are Python's. */
int hook_run_cdi(const struct self *self, char *const *arguments);
