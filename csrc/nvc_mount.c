/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_mount.h"

#include <errno.h>
#include <linux/stat.h>
#include <stdbool.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "nvc_classic.h"
#include "nvc_cleanup.h"
#include "nvc_io.h"
#include "nvc_syscalls.h"
#include "nvc_text.h"

int nvc_mounter_open(const struct nvc_kernel *kernel, int fds_fd, struct nvc_mounter *out,
                     struct nvc_error *err)
{
	out->way = nvc_kernel_mount_way(kernel);
	out->fds_fd = fds_fd;
	return out->way == NVC_MOUNTS_STAGED ? nvc_classic_hide(err) : 0;
}

/* What a descriptor, or what is at a name in a directory, is. */
static int look(int dir_fd, const char *name, struct statx *out)
{
	int flags = name[0] == '\0' ? AT_EMPTY_PATH : AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT;

	return statx(dir_fd, name, flags, STATX_TYPE | STATX_MODE | STATX_INO | STATX_MNT_ID, out);
}

static struct nvc_mount_id identity(const struct statx *stx)
{
	return (struct nvc_mount_id){.mnt_id =
	                                 (stx->stx_mask & STATX_MNT_ID) != 0 ? stx->stx_mnt_id : 0,
	                             .dev = makedev(stx->stx_dev_major, stx->stx_dev_minor),
	                             .ino = stx->stx_ino};
}

int nvc_mount_identify(int dir_fd, const char *name, struct nvc_mount_id *out)
{
	struct statx stx;

	if (look(dir_fd, name, &stx) < 0)
		return -1;
	*out = identity(&stx);
	return 0;
}

int nvc_mount_look(int fd, struct nvc_mount_id *out, mode_t *mode)
{
	struct statx stx;

	if (look(fd, "", &stx) < 0)
		return -1;
	*out = identity(&stx);
	*mode = stx.stx_mode;
	return 0;
}

bool nvc_mount_is_same(const struct nvc_mount_id *a, const struct nvc_mount_id *b)
{
	return a->mnt_id == b->mnt_id && a->dev == b->dev && a->ino == b->ino;
}

static int check_type(const struct nvc_op *op, const struct statx *stx, const char *source,
                      struct nvc_error *err)
{
	mode_t want = S_IFREG;

	if (op->kind == NVC_OP_DEVICE_NODE) {
		if (!S_ISCHR(stx->stx_mode) || stx->stx_rdev_major != op->major ||
		    stx->stx_rdev_minor != op->minor)
			return nvc_fail(err, NVC_EDEVICE, "check", source, "invalid device node");
		return 0;
	}
	if ((op->flags & NVC_OP_IS_DIR) != 0)
		want = S_IFDIR;
	else if ((op->flags & NVC_OP_IS_SOCKET) != 0)
		want = S_IFSOCK;
	if ((stx->stx_mode & S_IFMT) != want)
		return nvc_fail(err, NVC_EMOUNT, "check", source, "unexpected source file type");
	return 0;
}

static unsigned long mount_flags(const struct nvc_op *op)
{
	uint32_t flags = op->flags;

	if (op->kind == NVC_OP_DEVICE_NODE)
		flags = NVC_OP_RDONLY | NVC_OP_NOSUID | NVC_OP_NOEXEC;
	return ((flags & NVC_OP_RDONLY) != 0 ? (unsigned long)MS_RDONLY : 0) |
	       ((flags & NVC_OP_NODEV) != 0 ? (unsigned long)MS_NODEV : 0) |
	       ((flags & NVC_OP_NOSUID) != 0 ? (unsigned long)MS_NOSUID : 0) |
	       ((flags & NVC_OP_NOEXEC) != 0 ? (unsigned long)MS_NOEXEC : 0);
}

/* The same for mount_setattr and fsmount. */
static uint64_t attributes(unsigned long flags)
{
	return ((flags & MS_RDONLY) != 0 ? NVC_ATTR_RDONLY : 0) |
	       ((flags & MS_NODEV) != 0 ? NVC_ATTR_NODEV : 0) |
	       ((flags & MS_NOSUID) != 0 ? NVC_ATTR_NOSUID : 0) |
	       ((flags & MS_NOEXEC) != 0 ? NVC_ATTR_NOEXEC : 0);
}

static int set_attributes(int fd, const struct nvc_loose_mount *mount, struct nvc_error *err)
{
	/* Set, never cleared: what the host mounted noexec stays so. */
	struct nvc_mount_attr attr = {.attr_set = attributes(mount->flags),
	                              .propagation = MS_PRIVATE};

	if (nvc_mount_setattr(fd, &attr) < 0)
		return nvc_fail_errno(err, NVC_EMOUNT, "mount attributes", mount->source);
	return 0;
}

static int clone_source(int source_fd, struct nvc_loose_mount *out, struct nvc_error *err)
{
	nvc_autofd int fd = nvc_open_tree(
	    source_fd, "", NVC_OPEN_TREE_CLONE | NVC_OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);

	if (fd < 0)
		return nvc_fail_errno(err, NVC_EMOUNT, "mount clone", out->source);
	if (set_attributes(fd, out, err) < 0)
		return -1;
	out->fd = nvc_steal_fd(&fd);
	return 0;
}

/* See what the mount, or the source while there is none, is. */
static int check_source(int fd, const struct nvc_op *op, struct nvc_loose_mount *out,
                        struct nvc_error *err)
{
	struct statx stx;

	if (look(fd, "", &stx) < 0)
		return nvc_fail_errno(err, NVC_EMOUNT, "stat", out->source);
	if (check_type(op, &stx, out->source, err) < 0)
		return -1;
	out->mode = stx.stx_mode;
	out->id = identity(&stx);
	return 0;
}

/* Where mounts cannot be made to order. */
static int take_classic(const struct nvc_mounter *mounter, const struct nvc_op *op,
                        struct nvc_loose_mount *out, struct nvc_error *err)
{
	nvc_autofd int source_fd = nvc_classic_open_source(out->source);

	if (source_fd < 0)
		return nvc_fail_errno(err, NVC_EMOUNT, "stat", out->source);
	if (check_source(source_fd, op, out, err) < 0)
		return -1;
	if (mounter->way != NVC_MOUNTS_STAGED)
		return 0;
	if (nvc_classic_stage(mounter, source_fd, out, err) < 0)
		return -1;
	if (nvc_mount_identify(out->fd, "", &out->id) < 0)
		return nvc_fail_errno(err, NVC_EMOUNT, "stat", out->source);
	return 0;
}

/* Whether a call failed by the path that it was given. */
static bool is_of_path(int number)
{
	return number == ENOENT || number == ENOTDIR || number == ELOOP || number == EACCES ||
	       number == ENAMETOOLONG;
}

int nvc_mount_take(const struct nvc_mounter *mounter, struct nvc_sources *sources,
                   const struct nvc_plan *plan, const struct nvc_op *op,
                   struct nvc_loose_mount *out, struct nvc_error *err)
{
	out->fd = -1;
	out->source = nvc_plan_text(plan, op->arg);
	out->flags = mount_flags(op);
	if (mounter->way != NVC_MOUNTS_NEW)
		return take_classic(mounter, op, out, err);
	out->fd = nvc_sources_clone(sources, out->source);
	if (out->fd < 0)
		return nvc_fail_errno(err, NVC_EMOUNT, is_of_path(errno) ? "stat" : "mount clone",
		                      out->source);
	if (set_attributes(out->fd, out, err) < 0)
		return -1;
	return check_source(out->fd, op, out, err);
}

int nvc_mount_again(const struct nvc_loose_mount *mount, struct nvc_loose_mount *out,
                    struct nvc_error *err)
{
	*out = *mount;
	if (mount->fd < 0)
		return 0;
	out->fd = nvc_open_tree(mount->fd, "",
	                        NVC_OPEN_TREE_CLONE | NVC_OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
	if (out->fd >= 0 && nvc_mount_identify(out->fd, "", &out->id) == 0)
		return 0;
	nvc_close_fd(&out->fd);
	return nvc_fail_errno(err, NVC_EMOUNT, "mount clone", mount->source);
}

static bool configure(int fs_fd, const struct nvc_loose_mount *mount)
{
	char text[16], *end = text + sizeof text;

	return nvc_fsconfig(fs_fd, NVC_FSCONFIG_STRING, "source", "tmpfs") == 0 &&
	       nvc_fsconfig(fs_fd, NVC_FSCONFIG_STRING, "mode",
	                    nvc_digits(end, mount->tmpfs_mode, 8)) == 0 &&
	       nvc_fsconfig(fs_fd, NVC_FSCONFIG_STRING, "uid", nvc_digits(end, mount->uid, 10)) ==
	           0 &&
	       nvc_fsconfig(fs_fd, NVC_FSCONFIG_STRING, "gid", nvc_digits(end, mount->gid, 10)) ==
	           0 &&
	       nvc_fsconfig(fs_fd, NVC_FSCONFIG_CREATE, NULL, NULL) == 0;
}

static int make_tmpfs(struct nvc_loose_mount *out, struct nvc_error *err)
{
	nvc_autofd int fs_fd = nvc_fsopen("tmpfs");

	if (fs_fd < 0 || !configure(fs_fd, out))
		return nvc_fail_errno(err, NVC_EMOUNT, "mount operation", "tmpfs");
	nvc_autofd int fd = nvc_fsmount(fs_fd, (unsigned)attributes(out->flags));
	if (fd < 0)
		return nvc_fail_errno(err, NVC_EMOUNT, "mount operation", "tmpfs");
	out->fd = nvc_steal_fd(&fd);
	return 0;
}

int nvc_mount_take_tmpfs(const struct nvc_mounter *mounter, uint32_t mode, uid_t uid, gid_t gid,
                         struct nvc_loose_mount *out, struct nvc_error *err)
{
	int result = 0;

	*out = (struct nvc_loose_mount){.fd = -1,
	                                .mode = S_IFDIR,
	                                .flags = MS_NODEV | MS_NOSUID | MS_NOEXEC,
	                                .tmpfs_mode = mode,
	                                .uid = uid,
	                                .gid = gid};
	if (mounter->way == NVC_MOUNTS_NEW)
		result = make_tmpfs(out, err);
	else if (mounter->way == NVC_MOUNTS_STAGED)
		result = nvc_classic_stage_tmpfs(mounter, out, err);
	if (result < 0)
		return -1;
	if (out->fd >= 0 && nvc_mount_identify(out->fd, "", &out->id) < 0)
		return nvc_fail_errno(err, NVC_EMOUNT, "stat", "tmpfs");
	return 0;
}

int nvc_mount_take_data(const struct nvc_mounter *mounter, const char *name, const void *data,
                        size_t len, struct nvc_loose_mount *out, struct nvc_error *err)
{
	struct nvc_loose_mount tmpfs;

	if (mounter->way != NVC_MOUNTS_NEW)
		return nvc_fail(err, NVC_EKERNEL, "mount clone", name, "needs kernel 6.15");
	if (nvc_mount_take_tmpfs(mounter, 0755, 0, 0, &tmpfs, err) < 0)
		return -1;
	nvc_autofd int tmpfs_fd = tmpfs.fd;
	nvc_autofd int fd = openat(tmpfs_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0 || nvc_write_all(fd, data, len) < 0)
		return nvc_fail_errno(err, NVC_EMOUNT, "write", name);
	*out = (struct nvc_loose_mount){.fd = -1,
	                                .mode = S_IFREG,
	                                .source = name,
	                                .flags = MS_RDONLY | MS_NODEV | MS_NOSUID | MS_NOEXEC};
	if (clone_source(fd, out, err) < 0) {
		err->code = NVC_EKERNEL;
		return -1;
	}
	if (nvc_mount_identify(out->fd, "", &out->id) == 0)
		return 0;
	nvc_close_fd(&out->fd);
	return nvc_fail_errno(err, NVC_EMOUNT, "stat", name);
}

int nvc_mount_attach(const struct nvc_mounter *mounter, const struct nvc_loose_mount *mount,
                     const struct nvc_mount_point *at, struct nvc_mount_id *id,
                     struct nvc_error *err)
{
	if (mount->fd < 0)
		return nvc_classic_attach(mounter, mount, at, id, err);
	if (nvc_move_mount(mount->fd, at->target_fd) < 0)
		return nvc_fail_errno_at(err, NVC_EMOUNT, "mount operation", at->root, at->path);
	*id = mount->id;
	/* A clone is private already, and stays so. */
	if (mounter->way == NVC_MOUNTS_NEW || nvc_classic_make_private(mounter, mount->fd) == 0)
		return 0;
	return nvc_fail_errno_at(err, NVC_EMOUNT, "mount propagation", at->root, at->path);
}

int nvc_mount_remove(int dir_fd, const char *name)
{
	if (fchdir(dir_fd) < 0)
		return -1;
	return umount2(name, MNT_DETACH | UMOUNT_NOFOLLOW);
}
