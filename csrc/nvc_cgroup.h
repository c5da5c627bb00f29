/* SPDX-License-Identifier: Apache-2.0 */
/* Device rules of a container, whatever hierarchy holds them: version 1 (devices.allow), version 2
 * (a BPF program), or both, since the kernel asks both. Privileges: write access to the devices
 * hierarchy; CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN, for version 2. Fork class: open is parent
 * only, the rest is child safe. */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "nvc_error.h"

struct nvc_device_rule {
	uint32_t major, minor;
	uint32_t count;  /* of minors from that one on */
	uint32_t access; /* NVC_OP_READ | NVC_OP_WRITE | NVC_OP_MKNOD */
};

/* Directories of a process's cgroups; -1 where there is none, or nothing to say: the root of
 * version 2 confines nobody. */
struct nvc_cgroup {
	int v1_fd, v2_fd;
	bool is_own;                               /* version 2: the caller is in the same one */
	char v1_path[PATH_MAX], v2_path[PATH_MAX]; /* for messages */
};

#define nvc_cgroup_init {.v1_fd = -1, .v2_fd = -1}

/* Find the cgroups of a process (`proc_fd`: its /proc directory) that rule devices. Fails with
 * NVC_ECGROUP where neither hierarchy is in sight. */
int nvc_cgroup_open(int proc_fd, struct nvc_cgroup *out, struct nvc_error *err);

void nvc_cgroup_close(struct nvc_cgroup *cgroup);
