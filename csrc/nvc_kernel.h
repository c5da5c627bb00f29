/* SPDX-License-Identifier: Apache-2.0 */
/* What this kernel (and the seccomp filter around us) lets us call. Probed once per job into a
 * struct that is passed down, so that a test can switch any feature off. Privileges: none. Fork
 * class: any. */
#pragma once

#include <stdbool.h>

#include "nvc_error.h"

struct nvc_kernel {
	bool open_tree;     /* 5.2 */
	bool move_mount;    /* 5.2 */
	bool fsopen;        /* 5.2: fsopen, fsconfig, fsmount */
	bool openat2;       /* 5.6; without it paths are walked component by component */
	bool mount_setattr; /* 5.12 */
};

/* Ask the kernel, by calls that cannot succeed. */
void nvc_kernel_probe(struct nvc_kernel *out);

/* Fail with NVC_EKERNEL, naming the call, where applying a plan would lack one. */
int nvc_kernel_require_mounts(const struct nvc_kernel *kernel, struct nvc_error *err);
