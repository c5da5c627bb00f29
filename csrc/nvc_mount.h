/* SPDX-License-Identifier: Apache-2.0 */
/* Mounts by descriptor: a host file is cloned into a detached mount while we still see the host,
 * gets its flags there, and is attached to a descriptor inside the container after the namespace
 * was entered. Privileges: CAP_SYS_ADMIN over both mount namespaces. Fork class: child safe. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "nvc_error.h"
#include "nvc_plan.h"

/* A mount that is not attached yet. */
struct nvc_loose_mount {
	int fd;          /* -1: none */
	mode_t mode;     /* st_mode of its root */
	uint64_t mnt_id; /* 0 where the kernel does not tell (< 5.8) */
	uint64_t dev, ino;
};

/* Clone the source of a BIND_MOUNT or DEVICE_NODE operation. No link is followed anywhere in the
 * path: discovery resolved it, so a link there now is somebody's swap. A source that is not what
 * the operation says fails with NVC_EMOUNT or, for a device number, NVC_EDEVICE. */
int nvc_mount_clone(const struct nvc_plan *plan, const struct nvc_op *op,
                    struct nvc_loose_mount *out, struct nvc_error *err);

/* Make an empty tmpfs: nodev, nosuid, noexec. */
int nvc_mount_tmpfs(uint32_t mode, uid_t uid, gid_t gid, struct nvc_loose_mount *out,
                    struct nvc_error *err);

/* Attach to what `target_fd` (O_PATH) stands on and make the mount private: below a shared parent
 * it would have become shared. `path` is for the message. */
int nvc_mount_attach(const struct nvc_loose_mount *mount, int target_fd, const char *path,
                     struct nvc_error *err);

/* Identity of the topmost mount at `name` in a directory: fills mnt_id, dev, ino. */
int nvc_mount_identify(int dir_fd, const char *name, struct nvc_loose_mount *out);

/* Unmount the topmost mount at `name`. Changes the working directory (of the child that we are):
 * umount2 takes no descriptor, and /proc may belong to another pid namespace. Returns -1, errno. */
int nvc_mount_remove(int dir_fd, const char *name);
