/* SPDX-License-Identifier: Apache-2.0 */
/* Look-ups of many paths in one root (nvc_path.h): the root and the directory that was looked into
 * last stay open, so that a further name in it costs one system call, and each link two.
 * Privileges: search permission. Fork class: any. */
#pragma once

#include <stdint.h>

#include "nvc_path.h"

struct nvc_finder {
	struct nvc_root root;
	char name[PATH_MAX];   /* of the root */
	char asked[PATH_MAX];  /* the last directory, as it was asked for */
	struct nvc_place last; /* where that is; fd -1 for none */
};

/* What is at a path. Times are nanoseconds since the epoch. */
struct nvc_found {
	uint64_t mode, rdev, dev, ino, size, mtime, ctime;
	char path[PATH_MAX]; /* from the root, free of links */
};

/* Open the directory `root` of the host ("" or "/" is the host itself). */
int nvc_finder_open(struct nvc_finder *finder, const char *root, struct nvc_error *err);

void nvc_finder_close(struct nvc_finder *finder);

/* Open for reading the regular file that `path` leads to; never blocks. Returns the fd, or -1 and
 * NVC_EPATH. */
int nvc_find_open(struct nvc_finder *finder, const char *path, struct nvc_error *err);

/* Follow `path` to its end. Returns 1 and fills `out`, or 0 if nothing is there. Fails as
 * nvc_path_walk does. */
int nvc_find(struct nvc_finder *finder, const char *path, struct nvc_found *out,
             struct nvc_error *err);
