/* SPDX-License-Identifier: Apache-2.0 */
/* Where this program is, what it is called, and what is beside it. */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>

/* Where programs are looked for when nothing else says so. */
#define STANDARD_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

enum role {
	ROLE_NONE,
	ROLE_RUNTIME,
	ROLE_HOOK,
	ROLE_CDI_HOOK,
	ROLE_CLI,
};

struct self {
	const char *name;    /* as called, or the file's where that is none of ours */
	char path[PATH_MAX]; /* of the program's file; "" if not known */
	char directory[PATH_MAX];
};

/* Find out; the role is by the last part of the name. */
enum role self_open(const char *called, struct self *out);

/* The last part of a path. */
const char *self_base(const char *path);

/* Whether a file is one of the programs that this one is installed as. */
bool self_is(const struct self *self, const struct stat *st);
