/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_classic.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/statvfs.h>

#include "nvc_cleanup.h"
#include "nvc_syscalls.h"
#include "nvc_text.h"

static char *put_text(char *at, const char *text)
{
	size_t len = strlen(text);

	memcpy(at, text, len + 1);
	return at + len;
}

static char *put_number(char *at, unsigned value, unsigned base)
{
	char text[16];

	return put_text(at, nvc_digits(text + sizeof text, value, base));
}

/* mount(2) from one descriptor (or none) to another. */
static int call_mount(const struct nvc_mounter *mounter, int source_fd, int target_fd,
                      unsigned long flags)
{
	char source[16] = "none", target[16];

	if (source_fd >= 0)
		(void)put_number(source, (unsigned)source_fd, 10);
	(void)put_number(target, (unsigned)target_fd, 10);
	if (fchdir(mounter->fds_fd) < 0)
		return -1;
	return mount(source, target, NULL, flags, NULL);
}

static int mount_tmpfs(const struct nvc_mounter *mounter, const struct nvc_loose_mount *mount_,
                       int target_fd)
{
	char target[16], options[64], *at = put_text(options, "mode=");

	at = put_number(at, mount_->tmpfs_mode, 8);
	at = put_number(put_text(at, ",uid="), mount_->uid, 10);
	(void)put_number(put_text(at, ",gid="), mount_->gid, 10);
	(void)put_number(target, (unsigned)target_fd, 10);
	if (fchdir(mounter->fds_fd) < 0)
		return -1;
	return mount("tmpfs", target, "tmpfs", mount_->flags, options);
}

int nvc_classic_make_private(const struct nvc_mounter *mounter, int mount_fd)
{
	return call_mount(mounter, -1, mount_fd, MS_PRIVATE);
}

/* Add flags to those that the mount has: what the host mounted noexec stays so, and in a user
 * namespace the kernel refuses to drop any. */
static int add_flags(const struct nvc_mounter *mounter, int mount_fd, unsigned long flags)
{
	static const struct {
		unsigned long has, flag;
	} known[] = {
	    {ST_RDONLY, MS_RDONLY},     {ST_NOSUID, MS_NOSUID},   {ST_NODEV, MS_NODEV},
	    {ST_NOEXEC, MS_NOEXEC},     {ST_NOATIME, MS_NOATIME}, {ST_NODIRATIME, MS_NODIRATIME},
	    {ST_RELATIME, MS_RELATIME},
	};
	struct statvfs now;

	if (fstatvfs(mount_fd, &now) < 0)
		return -1;
	for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
		if ((now.f_flag & known[i].has) != 0)
			flags |= known[i].flag;
	}
	return call_mount(mounter, -1, mount_fd, MS_REMOUNT | MS_BIND | flags);
}

int nvc_classic_open_source(const char *path)
{
	char name[NAME_MAX + 1];
	struct nvc_open_how how = {.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
	                           .resolve = NVC_RESOLVE_NO_SYMLINK};
	struct stat st;
	nvc_autofd int fd = nvc_openat2(AT_FDCWD, path, how);

	if (fd >= 0 || errno != ENOSYS)
		return nvc_steal_fd(&fd);
	/* Before 5.6: component by component. */
	fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	for (const char *at = path + strspn(path, "/"); fd >= 0 && *at != '\0';) {
		size_t len = strcspn(at, "/");
		if (len > NAME_MAX) {
			errno = ENAMETOOLONG;
			return -1;
		}
		memcpy(name, at, len);
		name[len] = '\0';
		at += len;
		at += strspn(at, "/");
		int next = openat(fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		nvc_close_fd(&fd);
		fd = next;
		if (fd >= 0 && (fstat(fd, &st) < 0 || S_ISLNK(st.st_mode))) {
			errno = ELOOP;
			return -1;
		}
	}
	return nvc_steal_fd(&fd);
}

/* --- staged ------------------------------------------------------------------------------------
 */

int nvc_classic_hide(struct nvc_error *err)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return nvc_fail_errno(err, NVC_EMOUNT, "mount namespace copy", "host");
	return 0;
}

static int detach_copy(int mounted_fd)
{
	return nvc_open_tree(mounted_fd, "",
	                     NVC_OPEN_TREE_CLONE | NVC_OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
}

int nvc_classic_stage(const struct nvc_mounter *mounter, int source_fd, struct nvc_loose_mount *out,
                      struct nvc_error *err)
{
	if (call_mount(mounter, source_fd, source_fd, MS_BIND) < 0)
		return nvc_fail_errno(err, NVC_EMOUNT, "mount clone", out->source);
	nvc_autofd int mounted_fd = nvc_classic_open_source(out->source);
	if (mounted_fd < 0 || add_flags(mounter, mounted_fd, out->flags) < 0)
		return nvc_fail_errno(err, NVC_EMOUNT, "mount attributes", out->source);
	out->fd = detach_copy(mounted_fd);
	return out->fd < 0 ? nvc_fail_errno(err, NVC_EMOUNT, "mount clone", out->source) : 0;
}

int nvc_classic_stage_tmpfs(const struct nvc_mounter *mounter, struct nvc_loose_mount *out,
                            struct nvc_error *err)
{
	/* Any directory will do: nobody else sees it covered. */
	nvc_autofd int place_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (place_fd < 0 || mount_tmpfs(mounter, out, place_fd) < 0)
		return nvc_fail_errno(err, NVC_EMOUNT, "mount operation", "tmpfs");
	nvc_autofd int mounted_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	out->fd = mounted_fd < 0 ? -1 : detach_copy(mounted_fd);
	if (out->fd < 0 || umount2("/proc", MNT_DETACH) < 0)
		return nvc_fail_errno(err, NVC_EMOUNT, "mount clone", "tmpfs");
	return 0;
}

/* --- classic -----------------------------------------------------------------------------------
 */

/* The container still shows the host's tree, and must show the very file that we looked at. */
static int bind(const struct nvc_mounter *mounter, const struct nvc_loose_mount *mount,
                const struct nvc_mount_point *at, struct nvc_error *err)
{
	struct nvc_mount_id now;
	nvc_autofd int source_fd = nvc_classic_open_source(mount->source);

	if (source_fd < 0 || nvc_mount_identify(source_fd, "", &now) < 0)
		return nvc_fail_errno(err, NVC_EMOUNT, "stat", mount->source);
	if (now.dev != mount->id.dev || now.ino != mount->id.ino)
		return nvc_fail(err, NVC_EMOUNT, "check", mount->source,
		                "another file in the container's mount namespace");
	if (call_mount(mounter, source_fd, at->target_fd, MS_BIND) < 0)
		return nvc_fail_errno_at(err, NVC_EMOUNT, "mount operation", at->root, at->path);
	return 0;
}

int nvc_classic_attach(const struct nvc_mounter *mounter, const struct nvc_loose_mount *mount,
                       const struct nvc_mount_point *at, struct nvc_mount_id *id,
                       struct nvc_error *err)
{
	if (mount->source != NULL) {
		if (bind(mounter, mount, at, err) < 0)
			return -1;
	} else if (mount_tmpfs(mounter, mount, at->target_fd) < 0) {
		return nvc_fail_errno_at(err, NVC_EMOUNT, "mount operation", at->root, at->path);
	}
	nvc_autofd int mounted_fd = openat(at->dir_fd, at->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (mounted_fd < 0 || nvc_mount_identify(mounted_fd, "", id) < 0)
		return nvc_fail_errno_at(err, NVC_EMOUNT, "stat", at->root, at->path);
	if (mount->source != NULL && (id->dev != mount->id.dev || id->ino != mount->id.ino))
		return nvc_fail(err, NVC_EMOUNT, "check", at->path, "the mount point was swapped");
	if (mount->source != NULL && add_flags(mounter, mounted_fd, mount->flags) < 0)
		return nvc_fail_errno_at(err, NVC_EMOUNT, "mount attributes", at->root, at->path);
	if (nvc_classic_make_private(mounter, mounted_fd) < 0)
		return nvc_fail_errno_at(err, NVC_EMOUNT, "mount propagation", at->root, at->path);
	return 0;
}
