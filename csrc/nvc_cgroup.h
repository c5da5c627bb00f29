/* SPDX-License-Identifier: Apache-2.0 */
/* Device rules of a container's cgroup, version 1 (devices.allow). Privileges: write access to
 * the devices hierarchy. Fork class: open is parent only, the rest is child safe. */
#pragma once

#include <stdint.h>

#include "nvc_error.h"

/* Find the devices cgroup of a process and open its directory; returns the fd. Fails with
 * NVC_ECGROUP, also where the process has no version 1 devices cgroup. */
int nvc_cgroup_open(int pid, struct nvc_error *err);

struct nvc_device_rule {
	uint32_t major, minor;
	uint32_t access; /* NVC_OP_READ | NVC_OP_WRITE | NVC_OP_MKNOD */
};

/* Which of the rule's accesses the cgroup's own rule for exactly this device lacks, 0 where some
 * rule grants all of them already. */
int nvc_cgroup_missing(int cgroup_fd, const struct nvc_device_rule *rule, uint32_t *missing,
                       struct nvc_error *err);

int nvc_cgroup_allow(int cgroup_fd, const struct nvc_device_rule *rule, struct nvc_error *err);
int nvc_cgroup_deny(int cgroup_fd, const struct nvc_device_rule *rule, struct nvc_error *err);
