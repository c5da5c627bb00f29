/* SPDX-License-Identifier: Apache-2.0 */
/* Hand over to the Python interpreter that this package is installed in. */
#pragma once

#include "self.h"

/* Replace the process by `run()` of a module, with the program's name and arguments, up to a NULL,
 * in sys.argv. Returns the exit status, 1 and said why, only if that cannot be. */
int python_exec(const struct self *self, const char *program, char *const *arguments,
                char *const *environment);

/* Find the interpreter in the beginning of a script that pip wrote for it: cuts it out in place.
 * NULL if none is named. */
char *python_find(char *script);
