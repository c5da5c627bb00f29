/* SPDX-License-Identifier: Apache-2.0 */
/* Device rules of a version 1 cgroup: devices.list, devices.allow, devices.deny. Privileges: write
 * access to them. Fork class: child safe. */
#pragma once

#include "nvc_arena.h"
#include "nvc_cgroup.h"

/* What a cgroup allowed when the first rule was added. */
struct nvc_devlist {
	struct nvc_arena text; /* of devices.list, ended by NUL */
	int allow_fd;
};

#define nvc_devlist_init {.allow_fd = -1}

int nvc_devlist_open(const struct nvc_cgroup *cgroup, struct nvc_devlist *out,
                     struct nvc_error *err);
void nvc_devlist_close(struct nvc_devlist *list);

/* Which of the rule's accesses the cgroup's own rule for exactly this device lacked, 0 where some
 * rule granted all of them already. */
uint32_t nvc_devlist_missing(const struct nvc_devlist *list, const struct nvc_device_rule *rule);

int nvc_devlist_allow(const struct nvc_cgroup *cgroup, const struct nvc_devlist *list,
                      const struct nvc_device_rule *rule, struct nvc_error *err);
int nvc_devlist_deny(const struct nvc_cgroup *cgroup, const struct nvc_device_rule *rule,
                     struct nvc_error *err);
