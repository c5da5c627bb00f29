/* SPDX-License-Identifier: Apache-2.0 */
/* Take back what a journal says was done. Every record is undone on its own: only what is still
 * what we made goes (same device and inode, same mount id, same link text), so that what somebody
 * changed since stays theirs. Privileges and fork class: as the worker that calls it. */
#pragma once

#include "nvc_cgroup.h"
#include "nvc_error.h"
#include "nvc_group.h"
#include "nvc_journal.h"
#include "nvc_path.h"

/* Name that a replaced link is prepared under, in its own directory. */
#define NVC_TEMPORARY_LINK ".libnvc.link"

struct nvc_undo {
	struct nvc_journal *journal;
	const struct nvc_root *root;
	const struct nvc_cgroup *cgroup;
	struct nvc_groups *groups;
};

/* Undo all records, newest first, in the mount namespace of the container. Goes on after a
 * failure; then returns -1 with `err` set to the first. `err` must lie in shared memory. */
int nvc_undo_all(const struct nvc_undo *job, struct nvc_error *err);

/* Undo the device rules alone: they need no path of the container, and matter most. */
int nvc_undo_rules(const struct nvc_undo *job, struct nvc_error *err);
