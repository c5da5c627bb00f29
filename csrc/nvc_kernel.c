/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_kernel.h"

#include <errno.h>

#include "nvc_syscalls.h"

static bool there(long result)
{
	return result >= 0 || errno != ENOSYS;
}

void nvc_kernel_probe(struct nvc_kernel *out)
{
	struct nvc_open_how how = {.flags = O_PATH};

	/* Whatever the answer: a filter of system calls may refuse some of them only. */
	out->open_tree = there(nvc_open_tree(-1, "", ~0u));
	out->move_mount = there(syscall(SYS_move_mount, -1, "", -1, "", ~0u));
	out->fsopen = there(syscall(SYS_fsopen, NULL, ~0u));
	out->openat2 = there(nvc_openat2(-1, "x", how));
	out->mount_setattr = there(syscall(SYS_mount_setattr, -1, "", ~0u, NULL, 0));
}

enum nvc_mount_way nvc_kernel_mount_way(const struct nvc_kernel *kernel)
{
	if (!kernel->open_tree || !kernel->move_mount)
		return NVC_MOUNTS_CLASSIC;
	return kernel->mount_setattr && kernel->fsopen ? NVC_MOUNTS_NEW : NVC_MOUNTS_STAGED;
}
