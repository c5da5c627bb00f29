/* SPDX-License-Identifier: Apache-2.0 */
/* Mounts by descriptor. A host file is cloned into a detached mount while we still see the host,
 * gets its flags there, and is attached to a descriptor inside the container after the namespace
 * was entered. Where the kernel cannot do that, mount(2) does the same job through descriptors in
 * /proc, as long as the container still shows the host's tree. Privileges: CAP_SYS_ADMIN over both
 * mount namespaces. Fork class: child safe. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "nvc_error.h"
#include "nvc_kernel.h"
#include "nvc_plan.h"
#include "nvc_source.h"

/* What all mounts of a job share. */
struct nvc_mounter {
	enum nvc_mount_way way;
	int fds_fd; /* our own /proc/self/fd, from the host's procfs */
};

/* What tells two mounts, or a mount and what it covers, apart. */
struct nvc_mount_id {
	uint64_t mnt_id; /* 0 where the kernel does not tell (< 5.8) */
	uint64_t dev, ino;
};

/* A mount that is not attached yet. */
struct nvc_loose_mount {
	int fd;                 /* the detached mount; -1: none, or made when it is attached */
	mode_t mode;            /* st_mode of its root */
	struct nvc_mount_id id; /* all 0 for a tmpfs that is made when it is attached */
	const char *source;     /* host path; NULL: a tmpfs */
	unsigned long flags;    /* MS_RDONLY, MS_NODEV, … */
	uint32_t tmpfs_mode;
	uid_t uid;
	gid_t gid;
};

/* Where a mount goes: `target_fd` (O_PATH) is what is at `name` in `dir_fd` now. */
struct nvc_mount_point {
	int dir_fd, target_fd;
	const char *name;
	const char *root, *path;   /* for messages: the container's root, and the place in it */
	struct nvc_mount_id below; /* identity of `target_fd` */
};

/* Get ready in the worker, before it leaves the host's mount namespace. */
int nvc_mounter_open(const struct nvc_kernel *kernel, int fds_fd, struct nvc_mounter *out,
                     struct nvc_error *err);

/* Take the source of a BIND_MOUNT or DEVICE_NODE operation, seen from the host. No link is followed
 * anywhere in the path: discovery resolved it, so a link there now is somebody's swap. A source
 * that is not what the operation says fails with NVC_EMOUNT or, for a device number, NVC_EDEVICE.
 */
int nvc_mount_take(const struct nvc_mounter *mounter, struct nvc_sources *sources,
                   const struct nvc_plan *plan, const struct nvc_op *op,
                   struct nvc_loose_mount *out, struct nvc_error *err);

/* Take what a loose mount is once more, also after that was attached where we are now. The fd is
 * the caller's. */
int nvc_mount_again(const struct nvc_loose_mount *mount, struct nvc_loose_mount *out,
                    struct nvc_error *err);

/* Make an empty tmpfs: nodev, nosuid, noexec. */
int nvc_mount_take_tmpfs(const struct nvc_mounter *mounter, uint32_t mode, uid_t uid, gid_t gid,
                         struct nvc_loose_mount *out, struct nvc_error *err);

/* Make a file of the given content, read-only, nodev, nosuid, noexec: on a tmpfs of its own, which
 * is nowhere else. Fails with NVC_EKERNEL where such a file cannot be cloned (before 6.15). */
int nvc_mount_take_data(const struct nvc_mounter *mounter, const char *name, const void *data,
                        size_t len, struct nvc_loose_mount *out, struct nvc_error *err);

/* Attach a loose mount, private, and put its identity into `id`. What it goes below must have no
 * peers: below a shared mount it would become shared. */
int nvc_mount_attach(const struct nvc_mounter *mounter, const struct nvc_loose_mount *mount,
                     const struct nvc_mount_point *at, struct nvc_mount_id *id,
                     struct nvc_error *err);

/* Identity of what is at `name` in a directory, or of the directory itself for "". -1 with errno.
 */
int nvc_mount_identify(int dir_fd, const char *name, struct nvc_mount_id *out);

/* The same for a descriptor, and its st_mode. */
int nvc_mount_look(int fd, struct nvc_mount_id *out, mode_t *mode);

bool nvc_mount_is_same(const struct nvc_mount_id *a, const struct nvc_mount_id *b);

/* Unmount the topmost mount at `name`. Changes the working directory (of the child that we are):
 * umount2 takes no descriptor, and /proc may belong to another pid namespace. Returns -1, errno. */
int nvc_mount_remove(int dir_fd, const char *name);
