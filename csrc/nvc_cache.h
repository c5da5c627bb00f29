/* SPDX-License-Identifier: Apache-2.0 */
/* The file in the container's /etc that its loader finds libraries by: save it, replace it, put it
 * back. Privileges: write access to the directory. Fork class: child safe. */
#pragma once

#include <stdbool.h>
#include <time.h>

#include "nvc_error.h"
#include "nvc_journal.h"
#include "nvc_ldconfig.h"
#include "nvc_path.h"
#include "nvc_plan.h"

#define NVC_CACHE_DIR  "/etc"
#define NVC_CACHE_NAME "ld.so.cache"
#define NVC_CACHE_PATH NVC_CACHE_DIR "/" NVC_CACHE_NAME

struct nvc_cache {
	const char *name; /* in /etc: NVC_CACHE_NAME, or the path file of musl's loader */
	int dir_fd;       /* of /etc; -1: the container has none */
	bool exists;
	struct timespec mtime;
};

/* Open the directory; `out->exists` says nothing yet. */
int nvc_cache_open(const struct nvc_root *root, const char *name, struct nvc_cache *out,
                   struct nvc_error *err);

/* Save the file, if there is one, to the journal. */
int nvc_cache_save(const struct nvc_root *root, struct nvc_cache *cache,
                   struct nvc_journal *journal, struct nvc_error *err);

#define NVC_CACHE_FIXED 1 /* read-only, or somebody mounted the file: nothing was done */

/* Put a new file in its place, in one rename: 0, or NVC_CACHE_FIXED. Without a journal it is for
 * good. */
int nvc_cache_replace(const struct nvc_root *root, const struct nvc_cache *cache, const void *data,
                      size_t len, struct nvc_journal *journal, int op_index, struct nvc_error *err);

/* Have the host's ldconfig rewrite the cache, in its cage, for the operation's directories. `err`
 * must lie in shared memory. */
int nvc_cache_run(const struct nvc_root *root, const struct nvc_cache *cache,
                  struct nvc_journal *journal, const struct nvc_plan *plan, const struct nvc_op *op,
                  int op_index, struct nvc_program program, struct nvc_error *err);

#define NVC_CACHE_CHANGED 1 /* the file is not the one we left */

/* Put the saved file back (or remove ours, if there was none): 0. NVC_CACHE_CHANGED, with nothing
 * done, if it is no longer the one that was left here. May be repeated. */
int nvc_cache_restore(const struct nvc_root *root, struct nvc_journal *journal,
                      struct nvc_record *record, struct nvc_error *err);
