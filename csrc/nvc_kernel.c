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

	out->open_tree = there(nvc_open_tree(-1, "", ~0u));
	out->move_mount = there(syscall(SYS_move_mount, -1, "", -1, "", ~0u));
	out->fsopen = there(syscall(SYS_fsopen, NULL, ~0u));
	out->openat2 = there(nvc_openat2(-1, "x", how));
	out->mount_setattr = there(syscall(SYS_mount_setattr, -1, "", ~0u, NULL, 0));
}

int nvc_kernel_require_mounts(const struct nvc_kernel *kernel, struct nvc_error *err)
{
	if (!kernel->open_tree)
		return nvc_fail(err, NVC_EKERNEL, "open_tree", NULL, "needs kernel 5.2 or newer");
	if (!kernel->move_mount)
		return nvc_fail(err, NVC_EKERNEL, "move_mount", NULL, "needs kernel 5.2 or newer");
	if (!kernel->fsopen)
		return nvc_fail(err, NVC_EKERNEL, "fsopen", NULL, "needs kernel 5.2 or newer");
	if (!kernel->mount_setattr)
		return nvc_fail(err, NVC_EKERNEL, "mount_setattr", NULL,
		                "needs kernel 5.12 or newer");
	return 0;
}
