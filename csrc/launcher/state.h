/* SPDX-License-Identifier: Apache-2.0 */
/* The state of a container, as an OCI runtime gives it to a hook: JSON, of which annotations may
 * hold anything that an image or a user likes. Privileges: none. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Return the top-level member "pid" of a document, or -1 and in `why` what is wrong: not JSON in
 * UTF-8, no such member or more than one, not an integer from 1 to 2^31 - 1. */
int state_pid(const uint8_t *json, size_t len, const char **why);
