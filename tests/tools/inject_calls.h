/* SPDX-License-Identifier: Apache-2.0 */
/* Which system calls change the state of the machine: for the fault injector. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Returns the name of the call that a stopped thread is about to make, or NULL if the call changes
 * nothing. `detail` becomes the path it names, or what its descriptor is. */
const char *inject_changes(pid_t tid, uint64_t nr, const uint64_t args[6], char *detail,
                           size_t size);
