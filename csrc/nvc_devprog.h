/* SPDX-License-Identifier: Apache-2.0 */
/* Device rules of a version 2 cgroup: BPF programs that the kernel asks at each open and mknod of a
 * device. A rule is a block of instructions put in front of a program; everything else stays as it
 * is. A block carries a tag, by which it is found and taken out again also after others were added,
 * and whoever attached a program of their own meanwhile has taken it out already. A program is
 * replaced in one step: there is no moment without one. Privileges: CAP_BPF and CAP_NET_ADMIN, or
 * CAP_SYS_ADMIN. Fork class: child safe. */
#pragma once

#include "nvc_cgroup.h"

/* How many programs the cgroup itself has, and how many confine it in all, those above included. */
int nvc_devprog_count(const struct nvc_cgroup *cgroup, uint32_t *own, uint32_t *all,
                      struct nvc_error *err);

/* A number that no block has yet. */
int nvc_devprog_new_tag(uint32_t *out, struct nvc_error *err);

/* Put a rule into every program of the cgroup. One without a program gets one, which denies the
 * other devices of the rule's major and allows everything else, as before. `*tried` is false after
 * a failure before anything could have changed. */
int nvc_devprog_allow(const struct nvc_cgroup *cgroup, const struct nvc_device_rule *rule,
                      uint32_t tag, bool *tried, struct nvc_error *err);

/* Take the block with the tag out again, wherever it is. The program that nvc_devprog_allow made
 * goes with its last block. */
int nvc_devprog_deny(const struct nvc_cgroup *cgroup, uint32_t tag, struct nvc_error *err);
