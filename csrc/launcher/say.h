/* SPDX-License-Identifier: Apache-2.0 */
/* Messages: one line each on stderr, as libnvc words them (libnvc/_native/check.py). */
#pragma once

#include "nvc_error.h"

#define SAY_MAX 4096 /* bytes of a message; longer ones are cut */

/* Print `<who>: <message>` in one write. What is not printable ASCII is escaped: images and users
 * choose what is in paths. */
__attribute__((format(printf, 2, 3))) void say(const char *who, const char *format, ...);

/* Put an error into words. */
void say_describe(const struct nvc_error *err, char out[SAY_MAX]);
