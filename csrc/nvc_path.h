/* SPDX-License-Identifier: Apache-2.0 */
/* Paths inside a root that somebody hostile may have filled. A path is resolved once, from a
 * descriptor of the root, and then used as a descriptor:
 *   - absolute links start again at the root;
 *   - ".." above the root is an error, not clamped: whoever wrote that link meant to leave;
 *   - magic links of procfs are read as the text they show, never jumped through.
 * One openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS) settles the common path without links; all
 * others, and kernels before 5.6, are walked component by component, each opened O_NOFOLLOW from
 * the descriptor of the one before. Privileges: search permission. Fork class: child safe. */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "nvc_error.h"

struct nvc_root {
	int fd;           /* O_PATH directory */
	const char *name; /* for messages */
	bool openat2;     /* use it */
	int fds_fd;       /* our own /proc/self/fd, from the host's procfs; or -1 */
};

/* A place in a root: filled by nvc_path_walk. */
struct nvc_place {
	int fd;              /* O_PATH of what is there, or -1 if nothing is; the caller's */
	mode_t mode;         /* st_mode of it; a final link is a link unless followed */
	size_t len;          /* length of `path` */
	char path[PATH_MAX]; /* from the root, no links but perhaps the last; "" is the root */
};

/* Called with the directory in which `name` is missing and its path from the root; makes the
 * directory and returns 0, or fails. */
typedef int nvc_mkdir_fn(void *cookie, int dir_fd, const char *name, const char *path,
                         struct nvc_error *err);

struct nvc_walk {
	bool follow;         /* follow a link at the end of the path */
	nvc_mkdir_fn *mkdir; /* make missing directories on the way (all components); or NULL */
	void *cookie;
};

/* Resolve `path`. Something missing is success with fd -1, unless `how->mkdir` is set. Fails with
 * NVC_EPATH. Errors carry `path` as given. */
int nvc_path_walk(const struct nvc_root *root, const char *path, const struct nvc_walk *how,
                  struct nvc_place *out, struct nvc_error *err);

/* Open (O_PATH) what a path leads to, links followed, for reading only: ".." stops at the root as
 * it does for who is in there. Returns the fd, or -1 with errno. */
int nvc_path_open(const struct nvc_root *root, const char *path, struct stat *st);

/* Open for reading what an O_PATH descriptor of a regular file stands for; never blocks. `*st` is
 * of that file. -1 with errno: EINVAL for anything but a regular file, since to open a device may
 * be to use it. */
int nvc_path_reopen(const struct nvc_root *root, int path_fd, struct stat *st);
