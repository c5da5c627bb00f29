/* SPDX-License-Identifier: Apache-2.0 */
/* The container's loader cache: save it, have it rewritten, put it back. Privileges: write access
 * to the directory of the cache, and those of nvc_ldconfig. Fork class: child safe. */
#pragma once

#include "nvc_error.h"
#include "nvc_journal.h"
#include "nvc_ldconfig.h"
#include "nvc_path.h"
#include "nvc_plan.h"

#define NVC_CACHE_CHANGED 1 /* the cache is not the one we left */

/* Save the cache to the journal and run ldconfig for the operation's directories. `err` must lie
 * in shared memory. */
int nvc_cache_update(const struct nvc_root *root, struct nvc_journal *journal,
                     const struct nvc_plan *plan, const struct nvc_op *op, int op_index,
                     struct nvc_program program, struct nvc_error *err);

/* Put the saved cache back (or remove ours, if there was none): 0. NVC_CACHE_CHANGED, with nothing
 * done, if it is no longer the one that nvc_cache_update left. May be repeated. */
int nvc_cache_restore(const struct nvc_root *root, struct nvc_journal *journal,
                      struct nvc_record *record, struct nvc_error *err);

/* Run ldconfig without directories of our own. */
int nvc_cache_rebuild(const struct nvc_root *root, struct nvc_journal *journal,
                      struct nvc_program program, struct nvc_error *err);
