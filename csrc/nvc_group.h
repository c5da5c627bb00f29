/* SPDX-License-Identifier: Apache-2.0 */
/* Peer groups of mounts. A mount attached below a shared one appears below all its peers, perhaps
 * on the host, and stays there. So the mount below which we attach leaves its group for that
 * moment and joins it again. A clone stays in the group meanwhile, kept in a socket that outlives
 * the worker, so that the group can be found again whatever happens. Privileges: CAP_SYS_ADMIN
 * over the mount namespace. Fork class: open and close are parent only, the rest is child safe. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "nvc_error.h"

#define NVC_GROUPS_KNOWN 256

struct nvc_groups {
	int table_fd;    /* our own mountinfo, once we are in the container's mount namespace */
	int keep_fds[2]; /* socket for the clones */
	struct {
		uint64_t mnt_id;
		bool shared;
	} known[NVC_GROUPS_KNOWN]; /* the beginning of the table, as last read */
	uint32_t known_count;
};

#define nvc_groups_init {.table_fd = -1, .keep_fds = {-1, -1}}

int nvc_groups_open(struct nvc_groups *out, struct nvc_error *err);
void nvc_groups_close(struct nvc_groups *groups);

/* In the worker, when it has entered the namespace: read its mount table, by the directory of its
 * descriptors in the host's procfs. That of the container's process would leave out what is not
 * below the process's root. This and the rest return -1 with errno. */
int nvc_groups_enter(struct nvc_groups *groups, int fds_fd);

/* Whether a mount has peers that would see what is attached below it. ESTALE: no such mount. */
int nvc_groups_is_shared(struct nvc_groups *groups, uint64_t mnt_id, bool *out);

/* Whether a mount is still somewhere in the namespace. */
int nvc_groups_has(const struct nvc_groups *groups, uint64_t mnt_id, bool *out);

/* Climb from what `fd` stands on, in a directory `dir_fd` of the same mount or the mount's own
 * root, to the root of its mount. Returns an O_PATH fd. */
int nvc_groups_climb(int dir_fd, int fd);

/* Make a mount private, keeping a clone in its group. Needs kernel 5.15 to come back. */
int nvc_groups_leave(const struct nvc_groups *groups, int root_fd);

/* Put the mount back into the group that the clone is in, which is let go then. Without a clone
 * (both we and whom we work for were killed) it gets a group of its own. Also fine if it never
 * left. */
int nvc_groups_return(const struct nvc_groups *groups, int root_fd, uint64_t mnt_id);
