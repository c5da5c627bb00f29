/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_mount.h"

#include <errno.h>
#include <linux/stat.h>
#include <stdbool.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "nvc_cleanup.h"
#include "nvc_syscalls.h"

static int identify_at(int dir_fd, const char *name, int flags, struct nvc_loose_mount *out)
{
	struct statx stx;

	if (statx(dir_fd, name, flags, STATX_TYPE | STATX_MODE | STATX_INO | STATX_MNT_ID, &stx) <
	    0)
		return -1;
	out->mode = stx.stx_mode;
	out->mnt_id = (stx.stx_mask & STATX_MNT_ID) != 0 ? stx.stx_mnt_id : 0;
	out->dev = makedev(stx.stx_dev_major, stx.stx_dev_minor);
	out->ino = stx.stx_ino;
	return 0;
}

int nvc_mount_identify(int dir_fd, const char *name, struct nvc_loose_mount *out)
{
	return identify_at(dir_fd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, out);
}

/* Open a host path in which no component is a link. Before openat2 (5.6) only the last is
 * checked: those are the host's own directories. */
static int open_source(const char *path)
{
	struct nvc_open_how how = {.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
	                           .resolve = NVC_RESOLVE_NO_SYMLINK};
	int fd = nvc_openat2(AT_FDCWD, path, how);

	if (fd < 0 && errno == ENOSYS)
		fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	return fd;
}

static int check_type(const struct nvc_op *op, const struct stat *st, const char *source,
                      struct nvc_error *err)
{
	mode_t want = S_IFREG;

	if (op->kind == NVC_OP_DEVICE_NODE) {
		if (!S_ISCHR(st->st_mode) || st->st_rdev != makedev(op->major, op->minor))
			return nvc_fail(err, NVC_EDEVICE, "check", source, "invalid device node");
		return 0;
	}
	if ((op->flags & NVC_OP_IS_DIR) != 0)
		want = S_IFDIR;
	else if ((op->flags & NVC_OP_IS_SOCKET) != 0)
		want = S_IFSOCK;
	if ((st->st_mode & S_IFMT) != want)
		return nvc_fail(err, NVC_EMOUNT, "check", source, "unexpected source file type");
	return 0;
}

static uint64_t attributes(const struct nvc_op *op)
{
	uint32_t flags = op->flags;

	if (op->kind == NVC_OP_DEVICE_NODE)
		flags = NVC_OP_RDONLY | NVC_OP_NOSUID | NVC_OP_NOEXEC;
	return ((flags & NVC_OP_RDONLY) != 0 ? NVC_ATTR_RDONLY : 0) |
	       ((flags & NVC_OP_NODEV) != 0 ? NVC_ATTR_NODEV : 0) |
	       ((flags & NVC_OP_NOSUID) != 0 ? NVC_ATTR_NOSUID : 0) |
	       ((flags & NVC_OP_NOEXEC) != 0 ? NVC_ATTR_NOEXEC : 0);
}

int nvc_mount_clone(const struct nvc_plan *plan, const struct nvc_op *op,
                    struct nvc_loose_mount *out, struct nvc_error *err)
{
	/* Set, never cleared: what the host mounted noexec stays so. */
	struct nvc_mount_attr attr = {.attr_set = attributes(op), .propagation = MS_PRIVATE};
	const char *source = nvc_plan_text(plan, op->arg);
	struct stat st;
	nvc_autofd int source_fd = open_source(source);

	if (source_fd < 0 || fstat(source_fd, &st) < 0)
		return nvc_fail_errno(err, NVC_EMOUNT, "stat", source);
	if (check_type(op, &st, source, err) < 0)
		return -1;
	nvc_autofd int fd = nvc_open_tree(
	    source_fd, "", NVC_OPEN_TREE_CLONE | NVC_OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
	if (fd < 0)
		return nvc_fail_errno(err, NVC_EMOUNT, "mount clone", source);
	if (nvc_mount_setattr(fd, &attr) < 0)
		return nvc_fail_errno(err, NVC_EMOUNT, "mount attributes", source);
	if (identify_at(fd, "", AT_EMPTY_PATH, out) < 0)
		return nvc_fail_errno(err, NVC_EMOUNT, "stat", source);
	out->fd = nvc_steal_fd(&fd);
	return 0;
}

/* Decimal or octal digits without stdio. */
static const char *digits(char *end, unsigned value, unsigned base)
{
	*--end = '\0';
	do {
		*--end = (char)('0' + value % base);
		value /= base;
	} while (value != 0);
	return end;
}

static bool configure(int fs_fd, uint32_t mode, uid_t uid, gid_t gid)
{
	char text[16], *end = text + sizeof text;

	return nvc_fsconfig(fs_fd, NVC_FSCONFIG_STRING, "source", "tmpfs") == 0 &&
	       nvc_fsconfig(fs_fd, NVC_FSCONFIG_STRING, "mode", digits(end, mode, 8)) == 0 &&
	       nvc_fsconfig(fs_fd, NVC_FSCONFIG_STRING, "uid", digits(end, uid, 10)) == 0 &&
	       nvc_fsconfig(fs_fd, NVC_FSCONFIG_STRING, "gid", digits(end, gid, 10)) == 0 &&
	       nvc_fsconfig(fs_fd, NVC_FSCONFIG_CREATE, NULL, NULL) == 0;
}

int nvc_mount_tmpfs(uint32_t mode, uid_t uid, gid_t gid, struct nvc_loose_mount *out,
                    struct nvc_error *err)
{
	nvc_autofd int fs_fd = nvc_fsopen("tmpfs");

	if (fs_fd < 0 || !configure(fs_fd, mode, uid, gid))
		return nvc_fail_errno(err, NVC_EMOUNT, "mount operation", "tmpfs");
	nvc_autofd int fd = nvc_fsmount(fs_fd, NVC_ATTR_NODEV | NVC_ATTR_NOSUID | NVC_ATTR_NOEXEC);
	if (fd < 0 || identify_at(fd, "", AT_EMPTY_PATH, out) < 0)
		return nvc_fail_errno(err, NVC_EMOUNT, "mount operation", "tmpfs");
	out->fd = nvc_steal_fd(&fd);
	return 0;
}

int nvc_mount_attach(const struct nvc_loose_mount *mount, int target_fd, const char *path,
                     struct nvc_error *err)
{
	struct nvc_mount_attr attr = {.propagation = MS_PRIVATE};

	if (nvc_move_mount(mount->fd, target_fd) < 0)
		return nvc_fail_errno(err, NVC_EMOUNT, "mount operation", path);
	if (nvc_mount_setattr(mount->fd, &attr) < 0)
		return nvc_fail_errno(err, NVC_EMOUNT, "mount propagation", path);
	return 0;
}

int nvc_mount_remove(int dir_fd, const char *name)
{
	if (fchdir(dir_fd) < 0)
		return -1;
	return umount2(name, MNT_DETACH | UMOUNT_NOFOLLOW);
}
