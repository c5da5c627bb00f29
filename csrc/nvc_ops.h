/* SPDX-License-Identifier: Apache-2.0 */
/* The operations of a plan, carried out one by one by the worker: sources are opened and cloned
 * while the host is still in sight, everything else happens inside the container. Fork class:
 * child safe; privileges of the worker (see nvc_apply.h). */
#pragma once

#include <limits.h>
#include <stdint.h>
#include <sys/types.h>

#include "nvc_cgroup.h"
#include "nvc_devlist.h"
#include "nvc_error.h"
#include "nvc_group.h"
#include "nvc_journal.h"
#include "nvc_ldconfig.h"
#include "nvc_loader.h"
#include "nvc_mount.h"
#include "nvc_path.h"
#include "nvc_plan.h"

#define NVC_OPS_TMPFS_MAX    8
#define NVC_OPS_WARNINGS_MAX 8192
#define NVC_OPS_NONE         UINT32_MAX /* no operation is at work */

/* Who may stop the work: it ends in the middle, as if an operation had failed. */
struct nvc_stop {
	const uint32_t *asked; /* in shared memory: not 0 once somebody asked for it */
	pid_t parent;          /* whoever we work for must be alive */
};

/* A directory of the container, and how the plan spelled it. */
struct nvc_dir {
	struct nvc_place place;
	char text[PATH_MAX];
};

struct nvc_ops {
	const struct nvc_plan *plan;
	const struct nvc_mounter *mounter;
	struct nvc_groups *groups;
	struct nvc_loose_mount *loose; /* one for each operation */
	struct nvc_journal *journal;
	struct nvc_root root;
	const struct nvc_cgroup *cgroup;
	struct nvc_stop stop;
	struct nvc_program program; /* ldconfig; none: the cache is written here */
	uid_t uid;                  /* owner of what is made */
	gid_t gid;
	uint32_t *current; /* the operation at work, in shared memory */
	char *warnings;    /* NVC_OPS_WARNINGS_MAX bytes in shared memory; lines */

	/* the worker's own */
	struct nvc_dir dirs[2];            /* of the last operations: plans go to and fro */
	struct nvc_place *dir;             /* of the last one */
	mode_t dir_mode;                   /* of directories made on the way */
	uint64_t tmpfs[NVC_OPS_TMPFS_MAX]; /* device numbers of the tmpfs that we mounted */
	uint32_t tmpfs_count;
	uint32_t skipped[NVC_OPS_TMPFS_MAX]; /* tmpfs operations that had no place */
	uint32_t skipped_count;
	struct nvc_loader loader;
	struct nvc_devlist devlist;
};

/* Take all sources. Before the container is entered. */
int nvc_ops_prepare(struct nvc_ops *ops, struct nvc_error *err);

/* Do all operations, in order; stops at the first that fails, with its index in `err`. */
int nvc_ops_run(struct nvc_ops *ops, struct nvc_error *err);
