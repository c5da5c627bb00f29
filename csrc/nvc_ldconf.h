/* SPDX-License-Identifier: Apache-2.0 */
/* The directories that the container's loader cache is made from, in search order: those of
 * /etc/ld.so.conf (with includes and their wildcards), then those that ldconfig knows itself, each
 * followed by those below its glibc-hwcaps. Everything is resolved inside the container's root.
 * What is missing, or cannot be read, is left out, as ldconfig does. Privileges: read permission.
 * Fork class: child safe. */
#pragma once

#include <stdint.h>
#include <time.h>

#include "nvc_arena.h"
#include "nvc_path.h"

#define NVC_LDCONF_MAX   1024u /* directories */
#define NVC_LDCONF_FILES 1024u /* files that are read: includes may go in a circle */

struct nvc_lddir {
	const char *path;   /* as configured, without a slash at its end */
	const char *hwcaps; /* its name below glibc-hwcaps, or NULL */
	uint64_t dev, ino;  /* 0: it is missing */
};

struct nvc_ldconf {
	struct nvc_lddir *all;
	uint32_t count;
	struct timespec newest; /* when the last of these directories, or of the files, changed */
};

/* Strings and array live in `memory`. -1 with errno ENOMEM. */
int nvc_ldconf_read(const struct nvc_root *root, struct nvc_arena *memory, struct nvc_ldconf *out);

/* Which of the directories one is; NULL if it is none. */
const struct nvc_lddir *nvc_ldconf_find(const struct nvc_ldconf *conf, uint64_t dev, uint64_t ino);

/* Whether a file name matches a pattern of "*", "?" and "[a-z]", as for the shell. */
bool nvc_ldconf_matches(const char *pattern, const char *name);
