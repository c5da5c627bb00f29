/* SPDX-License-Identifier: Apache-2.0 */
/* System calls that the oldest libc we build on has no wrapper for, under their kernel names with
 * an nvc_ prefix. Fork class: any. */
#pragma once

#include <fcntl.h>
#include <linux/bpf.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Numbers are the same on every architecture since 5.1 (asm-generic/unistd.h). */
#ifndef SYS_open_tree
#define SYS_open_tree  428
#define SYS_move_mount 429
#define SYS_fsopen     430
#define SYS_fsconfig   431
#define SYS_fsmount    432
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_openat2
#define SYS_openat2 437
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif

#define NVC_OPEN_TREE_CLONE    1u
#define NVC_OPEN_TREE_CLOEXEC  ((unsigned)O_CLOEXEC)
#define NVC_MOVE_F_EMPTY_PATH  0x04u
#define NVC_MOVE_T_EMPTY_PATH  0x40u
#define NVC_MOVE_SET_GROUP     0x100u
#define NVC_FSOPEN_CLOEXEC     1u
#define NVC_FSMOUNT_CLOEXEC    1u
#define NVC_FSCONFIG_STRING    1u
#define NVC_FSCONFIG_CREATE    6u
#define NVC_ATTR_RDONLY        0x01u
#define NVC_ATTR_NOSUID        0x02u
#define NVC_ATTR_NODEV         0x04u
#define NVC_ATTR_NOEXEC        0x08u
#define NVC_RESOLVE_NO_MAGIC   0x02u
#define NVC_RESOLVE_NO_SYMLINK 0x04u
#define NVC_RESOLVE_BENEATH    0x08u
#define NVC_RESOLVE_IN_ROOT    0x10u

struct nvc_open_how {
	uint64_t flags;
	uint64_t mode;
	uint64_t resolve;
};

struct nvc_mount_attr {
	uint64_t attr_set;
	uint64_t attr_clr;
	uint64_t propagation;
	uint64_t userns_fd;
};

static inline int nvc_openat2(int dir_fd, const char *path, struct nvc_open_how how)
{
	return (int)syscall(SYS_openat2, dir_fd, path, &how, sizeof how);
}

static inline int nvc_open_tree(int dir_fd, const char *path, unsigned flags)
{
	return (int)syscall(SYS_open_tree, dir_fd, path, flags);
}

static inline int nvc_move_mount(int from_fd, int to_fd)
{
	return (int)syscall(SYS_move_mount, from_fd, "", to_fd, "",
	                    NVC_MOVE_F_EMPTY_PATH | NVC_MOVE_T_EMPTY_PATH);
}

/* Put a private mount into the peer group of another (5.15). */
static inline int nvc_share_group(int from_fd, int to_fd)
{
	return (int)syscall(SYS_move_mount, from_fd, "", to_fd, "",
	                    NVC_MOVE_F_EMPTY_PATH | NVC_MOVE_T_EMPTY_PATH | NVC_MOVE_SET_GROUP);
}

static inline int nvc_mount_setattr(int mount_fd, const struct nvc_mount_attr *attr)
{
	return (int)syscall(SYS_mount_setattr, mount_fd, "", AT_EMPTY_PATH, attr, sizeof *attr);
}

/* Let no device below a mount be opened through it. */
static inline int nvc_nodev_tree(int mount_fd)
{
	struct nvc_mount_attr attr = {.attr_set = NVC_ATTR_NODEV};

	return (int)syscall(SYS_mount_setattr, mount_fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr,
	                    sizeof attr);
}

static inline int nvc_fsopen(const char *fs_type)
{
	return (int)syscall(SYS_fsopen, fs_type, NVC_FSOPEN_CLOEXEC);
}

static inline int nvc_fsconfig(int fs_fd, unsigned cmd, const char *key, const char *value)
{
	return (int)syscall(SYS_fsconfig, fs_fd, cmd, key, value, 0);
}

static inline int nvc_fsmount(int fs_fd, unsigned attrs)
{
	return (int)syscall(SYS_fsmount, fs_fd, NVC_FSMOUNT_CLOEXEC, attrs);
}

static inline int nvc_bpf(int cmd, union bpf_attr *attr)
{
	return (int)syscall(SYS_bpf, cmd, attr, sizeof *attr);
}

/* fork without the handlers that libraries register, and without SIGCHLD for the caller: a host
 * program that reaps all children, or ignores SIGCHLD, never sees ours. Only __WALL waits for it.
 */
static inline pid_t nvc_clone(unsigned long namespaces)
{
	return (pid_t)syscall(SYS_clone, namespaces, NULL, NULL, NULL, NULL);
}
