/* SPDX-License-Identifier: Apache-2.0 */
/* What this kernel (and the seccomp filter around us) lets us call. Probed once per job into a
 * struct that is passed down, so that a test can switch any feature off. Privileges: none. Fork
 * class: any. */
#pragma once

#include <stdbool.h>

/* How mounts are made, by what the kernel has. */
enum nvc_mount_way {
	NVC_MOUNTS_NEW,     /* 5.12: detached, with their flags, attached by descriptor */
	NVC_MOUNTS_STAGED,  /* 5.2: the same, flags set before by remounting out of sight */
	NVC_MOUNTS_CLASSIC, /* mount(2) only, in containers that have not changed their root */
};

struct nvc_kernel {
	bool open_tree;     /* 5.2 */
	bool move_mount;    /* 5.2 */
	bool fsopen;        /* 5.2: fsopen, fsconfig, fsmount */
	bool openat2;       /* 5.6; without it paths are walked component by component */
	bool mount_setattr; /* 5.12 */
};

/* Ask the kernel, by calls that cannot succeed. */
void nvc_kernel_probe(struct nvc_kernel *out);

enum nvc_mount_way nvc_kernel_mount_way(const struct nvc_kernel *kernel);
