/* SPDX-License-Identifier: Apache-2.0 */
/* The prestart hook of a container for which a plan is kept: apply it, as cli/runtime_hook.py does
 * without one. Privileges: root. */
#pragma once

#include "file.h"
#include "self.h"

/* Give the container that a state names what it asks for. False if Python must do it: nothing has
 * been changed then. */
bool prestart_kept(const struct self *self, const struct file *state);
