/* SPDX-License-Identifier: Apache-2.0 */
/* Hooks of CDI files, called in a container's mount namespace: what Python did for the same call
 * and a container like this one is done again. Privileges: root. */
#pragma once

#include "file.h"
#include "self.h"

/* Whether these words surely have the state read from standard input. */
bool cdi_reads_state(char *const *arguments);

/* Do the hooks that a command line names, in order, as far as they are kept; `state` is what was on
 * standard input. Returns the command line of those that are left to Python, in place; NULL: none.
 */
char **cdi_kept(const struct self *self, char **arguments, const struct file *state);
