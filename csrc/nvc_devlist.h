/* SPDX-License-Identifier: Apache-2.0 */
/* Device rules of a version 1 cgroup: devices.list, devices.allow, devices.deny. Privileges: write
 * access to them. Fork class: child safe. */
#pragma once

#include "nvc_cgroup.h"

/* Which of the rule's accesses the cgroup's own rule for exactly this device lacks, 0 where some
 * rule grants all of them already. */
int nvc_devlist_missing(const struct nvc_cgroup *cgroup, const struct nvc_device_rule *rule,
                        uint32_t *missing, struct nvc_error *err);

int nvc_devlist_allow(const struct nvc_cgroup *cgroup, const struct nvc_device_rule *rule,
                      struct nvc_error *err);
int nvc_devlist_deny(const struct nvc_cgroup *cgroup, const struct nvc_device_rule *rule,
                     struct nvc_error *err);
