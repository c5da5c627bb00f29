/* SPDX-License-Identifier: Apache-2.0 */
/* The one error record: caller-owned, fixed size, no pointers, so that a child can leave it in
 * shared memory. Convention for every function of the core that can fail: `err` is the last
 * parameter and never NULL; success returns 0, an fd or a count and leaves `err` untouched;
 * failure returns -1 with `err` set exactly once. Fork class: any (no allocation, no stdio). */
#pragma once

#include <limits.h>
#include <stddef.h>

/* The class of a failure; Python maps each to one exception (libnvc/_native/check.py). */
enum nvc_code {
	NVC_OK = 0,
	NVC_EINTERNAL,  /* a broken promise inside the core */
	NVC_EINVAL,     /* the caller's arguments */
	NVC_EMALFORMED, /* a file is not what it claims to be (loader cache, ELF, journal) */
	NVC_EDRIVER,    /* the driver: NVML missing, failing or refusing */
	NVC_EPATH,      /* a path that cannot be resolved, or leaves its root */
	NVC_EMOUNT,     /* a mount, or its mount point */
	NVC_EDEVICE,    /* a device node that is not what the plan says */
	NVC_ENAMESPACE, /* the container: its process, namespaces or root */
	NVC_ECGROUP,    /* device rules */
	NVC_ELDCACHE,   /* the loader cache step */
	NVC_EKERNEL,    /* a system call this kernel lacks */
	NVC_ETIMEOUT,   /* a child did not finish before its deadline */
	NVC_ECRASH,     /* a child was killed or crashed */
	NVC_ECANCEL,    /* the caller was interrupted, or is gone */
};

struct nvc_error {
	int code;        /* enum nvc_code */
	int sys_errno;   /* errno of the failing call, or 0 */
	int op_index;    /* index of the plan's operation, or -1 */
	char step[48];   /* the failing call or action: "open", "move_mount", "mkdir", "parse" */
	char path[1024]; /* the operand, as the caller knows it; shortened from the left */
	char msg[512];   /* what went wrong, without step, path and errno text; may be empty */
};

_Static_assert(sizeof(struct nvc_error) <= PIPE_BUF, "an error fits one atomic pipe write");

/* Set `err` and return -1. `path` and `msg` may be NULL. */
int nvc_fail(struct nvc_error *err, enum nvc_code code, const char *step, const char *path,
             const char *msg);

/* The same for a failed system call: records errno (read first). */
int nvc_fail_errno(struct nvc_error *err, enum nvc_code code, const char *step, const char *path);

/* The same for a path inside a root: the error carries both, joined, as users know it. */
int nvc_fail_errno_at(struct nvc_error *err, enum nvc_code code, const char *step, const char *root,
                      const char *path);

/* Copy a string into a fixed buffer, always terminated; cut at the end. */
void nvc_copy(char *dst, size_t size, const char *src);
