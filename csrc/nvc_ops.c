/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_ops.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "nvc_access.h"
#include "nvc_cleanup.h"
#include "nvc_steps.h"
#include "nvc_syscalls.h"
#include "nvc_undo.h"

/* One line a warning, whatever the image called its files. */
static void warn(struct nvc_ops *ops, const char *path, const char *what)
{
	size_t len = strlen(ops->warnings), room = NVC_OPS_WARNINGS_MAX - len;

	if (strlen(path) + strlen(what) + 3 >= room)
		return;
	nvc_copy(ops->warnings + len, room, path);
	for (char *at = ops->warnings + len; *at != '\0'; at++) {
		if ((unsigned char)*at < 0x20 || *at == 0x7f)
			*at = '?';
	}
	len += strlen(path);
	nvc_copy(ops->warnings + len, NVC_OPS_WARNINGS_MAX - len, what);
	len += strlen(what);
	nvc_copy(ops->warnings + len, NVC_OPS_WARNINGS_MAX - len, "\n");
}

static int do_bind(struct nvc_ops *ops, struct nvc_task *task, struct nvc_error *err)
{
	struct nvc_loose_mount *mount = &ops->loose[task->index];
	struct nvc_mount_point at;
	struct nvc_mount_id id;

	if (nvc_step_go(ops, task, err) < 0)
		return -1;
	if (nvc_step_mount_point(ops, task, mount->mode, &at, err) < 0)
		return -1;
	nvc_autofd int target_fd = at.target_fd;
	return nvc_step_attach(ops, mount, &at, &id, err);
}

/* --- the other operations
 * -------------------------------------------------------------------------- */

/* Find an existing directory, following links in the root. */
static int find_directory(struct nvc_ops *ops, const char *path, struct nvc_place *out,
                          struct nvc_error *err)
{
	struct nvc_walk how = {.follow = true};

	if (nvc_path_walk(&ops->root, path, &how, out, err) < 0)
		return -1;
	if (out->fd >= 0 && !S_ISDIR(out->mode))
		nvc_close_fd(&out->fd);
	return 0;
}

static int mount_tmpfs(struct nvc_ops *ops, const struct nvc_task *task, struct nvc_place *place,
                       struct nvc_error *err)
{
	char above[PATH_MAX];
	const char *slash = strrchr(place->path, '/');
	struct nvc_place parent;
	struct nvc_mount_id id;
	nvc_autofd int target_fd = nvc_steal_fd(&place->fd);

	if (slash == NULL) {
		errno = EBUSY; /* a link of the image leads to its root */
		return nvc_step_fail(ops, "mount operation", nvc_task_text(ops, task->op->path),
		                     err);
	}
	size_t len = (size_t)(slash - place->path);
	memcpy(above, place->path, len);
	above[len] = '\0';
	if (find_directory(ops, len == 0 ? "/" : above, &parent, err) < 0)
		return -1;
	nvc_autofd int dir_fd = parent.fd;
	struct nvc_mount_point at = {dir_fd, target_fd, slash + 1, ops->root.name, place->path};
	if (nvc_mount_identify(target_fd, "", &at.below) < 0)
		return nvc_step_fail(ops, "stat", place->path, err);
	if (nvc_step_attach(ops, &ops->loose[task->index], &at, &id, err) < 0)
		return -1;
	ops->tmpfs[ops->tmpfs_count++] = id.dev;
	return 0;
}

/* Make the part of the path that the fall-back does not have, inside the new tmpfs. */
static int make_inside(struct nvc_ops *ops, const struct nvc_task *task, const char *path,
                       struct nvc_error *err)
{
	struct nvc_walk how = {.follow = true, .mkdir = nvc_step_make_parent, .cookie = ops};
	struct nvc_place place;

	ops->dir_mode = task->op->mode;
	int result = nvc_path_walk(&ops->root, path, &how, &place, err);
	ops->dir_mode = 0755;
	if (result == 0)
		nvc_close_fd(&place.fd);
	return result;
}

static int do_tmpfs(struct nvc_ops *ops, struct nvc_task *task, struct nvc_error *err)
{
	const char *path = nvc_task_text(ops, task->op->path),
	           *fallback = nvc_task_text(ops, task->op->arg);
	struct nvc_place place;

	if (ops->tmpfs_count == NVC_OPS_TMPFS_MAX)
		return nvc_fail(err, NVC_EINVAL, "check", path, "too many tmpfs operations");
	if (find_directory(ops, path, &place, err) < 0)
		return -1;
	if (place.fd >= 0)
		return mount_tmpfs(ops, task, &place, err);
	if (fallback[0] == '\0') {
		if (make_inside(ops, task, path, err) < 0 ||
		    find_directory(ops, path, &place, err) < 0)
			return -1;
		if (place.fd >= 0)
			return mount_tmpfs(ops, task, &place, err);
		errno = ENOTDIR; /* the image has something else there */
		return nvc_step_fail(ops, "mount operation", path, err);
	}
	if (find_directory(ops, fallback, &place, err) < 0)
		return -1;
	if (place.fd < 0) {
		warn(ops, path, ": not in the container, and it cannot be made there: left out");
		ops->skipped[ops->skipped_count++] = (uint32_t)task->index;
		return 0;
	}
	if (mount_tmpfs(ops, task, &place, err) < 0)
		return -1;
	return make_inside(ops, task, path, err);
}

static int do_directory(struct nvc_ops *ops, struct nvc_task *task, struct nvc_error *err)
{
	struct stat st;

	if (nvc_step_go(ops, task, err) < 0)
		return -1;
	if (fstatat(ops->dir->fd, task->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? nvc_step_mkdir(ops, ops->dir->fd, task->name, task->path,
		                                        task->op->mode, err)
		                       : nvc_step_fail(ops, "stat", task->path, err);
	if (S_ISDIR(st.st_mode))
		return 0;
	errno = ENOTDIR;
	return nvc_step_fail(ops, "file creation", task->path, err);
}

static bool is_our_tmpfs(const struct nvc_ops *ops, int fd)
{
	struct stat st;

	for (uint32_t i = 0; fstat(fd, &st) == 0 && i < ops->tmpfs_count; i++) {
		if (st.st_dev == ops->tmpfs[i])
			return true;
	}
	return false;
}

static int do_write_file(struct nvc_ops *ops, struct nvc_task *task, struct nvc_error *err)
{
	int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
	const char *data = nvc_task_text(ops, task->op->data);

	if (nvc_step_go(ops, task, err) < 0)
		return -1;
	/* It needs no record of its own: it goes with its tmpfs. */
	if (!is_our_tmpfs(ops, ops->dir->fd))
		return nvc_fail(err, NVC_EINVAL, "check", task->path,
		                "files are written below a tmpfs of the plan only");
	nvc_autofd int fd = openat(ops->dir->fd, task->name, flags, task->op->mode);
	if (fd < 0)
		return nvc_step_fail(ops, "file creation", task->path, err);
	for (uint32_t at = 0; at < task->op->data_len;) {
		ssize_t put = write(fd, data + at, task->op->data_len - at);
		if (put <= 0)
			return nvc_step_fail(ops, "write", task->path, err);
		at += (uint32_t)put;
	}
	return 0;
}

static int do_device_node(struct nvc_ops *ops, struct nvc_task *task, struct nvc_error *err)
{
	const struct nvc_op *op = task->op;
	dev_t number = makedev(op->major, op->minor);
	struct stat st;

	if (op->arg != 0)
		return do_bind(ops, task, err);
	if (nvc_step_go(ops, task, err) < 0)
		return -1;
	if (fstatat(ops->dir->fd, task->name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		if (S_ISCHR(st.st_mode) && st.st_rdev == number)
			return 0;
		(void)nvc_fail_errno_at(err, NVC_EDEVICE, "check", ops->root.name, task->path);
		err->sys_errno = 0;
		nvc_copy(err->msg, sizeof err->msg, "invalid device node");
		return -1;
	}
	struct nvc_record *record =
	    nvc_step_begin(ops, NVC_STEP_MKNOD, task->path, NULL, NULL, err);
	if (record == NULL)
		return -1;
	record->major = op->major;
	record->minor = op->minor;
	if (mknodat(ops->dir->fd, task->name, S_IFCHR | op->mode, number) < 0 ||
	    nvc_step_complete(record, ops->dir->fd, task->name) < 0)
		return nvc_step_failed(ops, record, task->path, err);
	return 0;
}

/* Give an existing link another text, in one rename. */
static int relink(struct nvc_ops *ops, int dir_fd, const char *name, const char *path,
                  const char *target, const char *old, struct nvc_error *err)
{
	struct stat st;

	/* Undoing removes what has this name, so nothing else may have it. */
	if (fstatat(dir_fd, NVC_TEMPORARY_LINK, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		errno = EEXIST;
		return nvc_step_fail(ops, "file creation of " NVC_TEMPORARY_LINK, path, err);
	}
	struct nvc_record *record = nvc_step_begin(ops, NVC_STEP_RELINK, path, target, old, err);
	if (record == NULL)
		return -1;
	bool is_made = symlinkat(target, dir_fd, NVC_TEMPORARY_LINK) == 0;
	if (!is_made || renameat(dir_fd, NVC_TEMPORARY_LINK, dir_fd, name) < 0) {
		(void)nvc_step_fail(ops, "file creation", path, err);
		(void)unlinkat(dir_fd, NVC_TEMPORARY_LINK, 0);
		/* On a read-only file system nothing can be undone, and nothing was done. */
		if (!is_made && err->sys_errno == EROFS)
			nvc_journal_mark(record, NVC_RECORD_UNDONE);
		return -1;
	}
	nvc_journal_mark(record, NVC_RECORD_DONE);
	return 0;
}

/* Which operation mounts what a link beside it would lead to; -1: none. */
static int find_linked(const struct nvc_ops *ops, const struct nvc_task *link)
{
	const char *path = nvc_task_text(ops, link->op->path);
	const char *target = nvc_task_text(ops, link->op->arg);
	size_t len = (size_t)(strrchr(path, '/') + 1 - path);

	for (int i = 0; i < link->index; i++) {
		const struct nvc_op *op = &ops->plan->ops[i];
		const char *other = nvc_task_text(ops, op->path);
		if (op->kind == NVC_OP_BIND_MOUNT && strncmp(other, path, len) == 0 &&
		    strcmp(other + len, target) == 0)
			return i;
	}
	return -1;
}

/* Take what a link would lead to, if an engine mounted it there: that is no file of the image. The
 * fd is the caller's; -1: nobody did. */
static int take_mounted(struct nvc_ops *ops, const char *target, struct nvc_loose_mount *out)
{
	const struct nvc_mount_attr alone = {.propagation = MS_PRIVATE};
	struct nvc_loose_mount found = {.fd = -1, .source = target};
	struct nvc_mount_id directory;
	struct nvc_error ignored;

	if (ops->mounter->way != NVC_MOUNTS_NEW || strchr(target, '/') != NULL)
		return -1;
	nvc_autofd int fd = openat(ops->dir->fd, target, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || nvc_mount_look(fd, &found.id, &found.mode) < 0 || !S_ISREG(found.mode) ||
	    nvc_mount_identify(ops->dir->fd, "", &directory) < 0 || found.id.mnt_id == 0 ||
	    found.id.mnt_id == directory.mnt_id)
		return -1;
	found.fd = fd;
	if (nvc_mount_again(&found, out, &ignored) < 0)
		return -1;
	if (nvc_mount_setattr(out->fd, &alone) < 0)
		nvc_close_fd(&out->fd);
	return out->fd < 0 ? -1 : 0;
}

/* Where a link belongs the image has something that no link can be put in place of without taking
 * it away: mount what the link would lead to over it. */
static int cover(struct nvc_ops *ops, const struct nvc_task *task, struct nvc_error *err)
{
	struct nvc_loose_mount again = {.fd = -1};
	struct nvc_mount_point at;
	struct nvc_mount_id id;
	int linked = find_linked(ops, task);

	if (linked < 0 && take_mounted(ops, nvc_task_text(ops, task->op->arg), &again) < 0) {
		warn(ops, task->path, ": the image has a file of its own there: kept");
		return 0;
	}
	if (linked >= 0 && nvc_mount_again(&ops->loose[linked], &again, err) < 0)
		return -1;
	nvc_autofd int again_fd = again.fd;
	if (nvc_step_mount_point(ops, task, again.mode, &at, err) < 0)
		return -1;
	nvc_autofd int target_fd = at.target_fd;
	return nvc_step_attach(ops, &again, &at, &id, err);
}

static int do_symlink(struct nvc_ops *ops, struct nvc_task *task, struct nvc_error *err)
{
	const char *target = nvc_task_text(ops, task->op->arg);
	char old[PATH_MAX];
	ssize_t len;

	if (nvc_step_go(ops, task, err) < 0)
		return -1;
	len = readlinkat(ops->dir->fd, task->name, old, sizeof old - 1);
	if (len >= 0) {
		old[len] = '\0';
		if ((task->op->flags & NVC_OP_REPLACE) == 0 || strcmp(old, target) == 0)
			return 0;
		return relink(ops, ops->dir->fd, task->name, task->path, target, old, err);
	}
	if (errno == EINVAL) /* there, and not a link */
		return (task->op->flags & NVC_OP_REPLACE) != 0 ? cover(ops, task, err) : 0;
	if (errno != ENOENT)
		return nvc_step_fail(ops, "stat", task->path, err);
	struct nvc_record *record =
	    nvc_step_begin(ops, NVC_STEP_SYMLINK, task->path, target, NULL, err);
	if (record == NULL)
		return -1;
	if (symlinkat(target, ops->dir->fd, task->name) < 0)
		return nvc_step_failed(ops, record, task->path, err);
	nvc_journal_mark(record, NVC_RECORD_DONE); /* it is known by its text */
	return 0;
}

/* Make a link as ldconfig does: in place of one that leads elsewhere, never of a file. */
static bool link_soname(void *cookie, const char *directory, const char *soname, const char *name)
{
	struct nvc_ops *ops = cookie;
	struct nvc_walk how = {.follow = true};
	struct nvc_place place;
	struct nvc_error ignored;
	char old[PATH_MAX], path[PATH_MAX];

	if (nvc_path_walk(&ops->root, directory, &how, &place, &ignored) < 0)
		return false;
	nvc_autofd int dir_fd = place.fd;
	ssize_t len = readlinkat(dir_fd, soname, old, sizeof old - 1);
	if (dir_fd < 0 || (len < 0 && errno != ENOENT) ||
	    place.len + strlen(soname) + 2 > sizeof path)
		return false;
	memcpy(path, place.path, place.len);
	path[place.len] = '/';
	nvc_copy(path + place.len + 1, sizeof path - place.len - 1, soname);
	if (len >= 0) {
		old[len] = '\0';
		return relink(ops, dir_fd, soname, path, name, old, &ignored) == 0;
	}
	struct nvc_record *record =
	    nvc_step_begin(ops, NVC_STEP_SYMLINK, path, name, NULL, &ignored);
	if (record == NULL)
		return false;
	if (symlinkat(name, dir_fd, soname) < 0) {
		(void)nvc_step_failed(ops, record, path, &ignored);
		return false;
	}
	nvc_journal_mark(record, NVC_RECORD_DONE); /* it is known by its text */
	return true;
}

#define NO_CACHE ": programs find the driver's libraries by LD_LIBRARY_PATH only"

/* Mount a new cache over one that cannot be replaced. */
static int cover_cache(struct nvc_ops *ops, const struct nvc_task *task, const uint8_t *data,
                       size_t len, struct nvc_error *err)
{
	const struct nvc_cache *cache = &ops->loader.cache;
	struct nvc_loose_mount mount;
	struct nvc_mount_id id;
	nvc_autofd int target_fd =
	    openat(cache->dir_fd, cache->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	if (target_fd < 0) {
		warn(ops, NVC_CACHE_DIR, ": read-only, and has no loader cache" NO_CACHE);
		return 0;
	}
	if (nvc_mount_take_data(ops->mounter, cache->name, data, len, &mount, err) < 0) {
		warn(ops, nvc_task_text(ops, task->op->path),
		     ": read-only, and this kernel cannot mount over it" NO_CACHE);
		return 0;
	}
	nvc_autofd int mount_fd = mount.fd;
	struct nvc_mount_point at = {cache->dir_fd, target_fd, cache->name, ops->root.name,
	                             nvc_task_text(ops, task->op->path)};
	if (nvc_mount_identify(target_fd, "", &at.below) < 0)
		return nvc_step_fail(ops, "stat", at.path, err);
	return nvc_step_attach(ops, &mount, &at, &id, err);
}

static int write_cache(struct nvc_ops *ops, const struct nvc_task *task, struct nvc_error *err)
{
	struct nvc_loader *loader = &ops->loader;
	const uint8_t *data;
	const char *shadow;
	size_t len;
	int result;

	loader->link = link_soname;
	loader->cookie = ops;
	if (nvc_loader_add(&ops->root, loader, ops->journal, ops->plan, task->op, &data, &len,
	                   &shadow, err) < 0)
		return -1;
	if (shadow != NULL)
		warn(ops, shadow,
		     ": the image's own library, found before the driver's: its directory comes "
		     "first in /etc/ld.so.conf");
	if (data == NULL || loader->cache.dir_fd < 0)
		return 0;
	result = nvc_cache_replace(&ops->root, &loader->cache, data, len, ops->journal, task->index,
	                           err);
	return result == NVC_CACHE_FIXED ? cover_cache(ops, task, data, len, err) : result;
}

/* Open the cache's directory again: the plan may have mounted something over it. */
static int reopen_cache(struct nvc_ops *ops, struct nvc_error *err)
{
	struct nvc_cache now;

	if (nvc_cache_open(&ops->root, ops->loader.cache.name, &now, err) < 0)
		return -1;
	nvc_close_fd(&ops->loader.cache.dir_fd);
	ops->loader.cache.dir_fd = now.dir_fd;
	return 0;
}

static int do_loader_cache(struct nvc_ops *ops, struct nvc_task *task, struct nvc_error *err)
{
	const struct nvc_cache *cache = &ops->loader.cache;

	if (strcmp(nvc_task_text(ops, task->op->path), NVC_CACHE_PATH) != 0)
		return nvc_fail(err, NVC_EINVAL, "check", nvc_task_text(ops, task->op->path),
		                "the loader cache is always " NVC_CACHE_PATH);
	if (cache->dir_fd >= 0 && reopen_cache(ops, err) < 0)
		return -1;
	if (cache->dir_fd < 0) {
		warn(ops, NVC_CACHE_DIR,
		     ": not in the container: it gets no loader cache" NO_CACHE);
		return ops->program.fd < 0 ? write_cache(ops, task, err) : 0;
	}
	if (ops->program.fd < 0)
		return write_cache(ops, task, err);
	return nvc_cache_run(&ops->root, cache, ops->journal, ops->plan, task->op, task->index,
	                     ops->program, err);
}

/* Look at the loader cache before anything changes. */
static int prepare_cache(struct nvc_ops *ops, struct nvc_error *err)
{
	struct nvc_loader *loader = &ops->loader;

	*loader = (struct nvc_loader)nvc_loader_init;
	if (!nvc_plan_has(ops->plan, NVC_OP_LOADER_CACHE))
		return 0;
	if (ops->program.fd < 0)
		return nvc_loader_prepare(&ops->root, ops->journal, loader, err);
	if (nvc_cache_open(&ops->root, NVC_CACHE_NAME, &loader->cache, err) < 0)
		return -1;
	return loader->cache.dir_fd < 0
	           ? 0
		   : nvc_cache_save(&ops->root, &loader->cache, ops->journal, err);
}

/* --- the whole plan
 * ---------------------------------------------------------------------------------- */

/* Whether an operation lies below a tmpfs that found no place. */
static bool is_skipped(const struct nvc_ops *ops, const struct nvc_op *op)
{
	const char *path = nvc_task_text(ops, op->path);

	for (uint32_t i = 0; i < ops->skipped_count; i++) {
		const char *top = nvc_task_text(ops, ops->plan->ops[ops->skipped[i]].path);
		size_t len = strlen(top);
		if (strncmp(path, top, len) == 0 && path[len] == '/')
			return true;
	}
	return false;
}

static int do_operation(struct nvc_ops *ops, struct nvc_task *task, struct nvc_error *err)
{
	if (is_skipped(ops, task->op))
		return 0;
	switch (task->op->kind) {
	case NVC_OP_TMPFS:
		return do_tmpfs(ops, task, err);
	case NVC_OP_DIRECTORY:
		return do_directory(ops, task, err);
	case NVC_OP_WRITE_FILE:
		return do_write_file(ops, task, err);
	case NVC_OP_BIND_MOUNT:
		return do_bind(ops, task, err);
	case NVC_OP_DEVICE_NODE:
		return do_device_node(ops, task, err);
	case NVC_OP_DEVICE_ACCESS:
		return nvc_access_allow(ops, task->op, err);
	case NVC_OP_SYMLINK:
		return do_symlink(ops, task, err);
	case NVC_OP_LOADER_CACHE:
		return do_loader_cache(ops, task, err);
	default:
		return nvc_fail(err, NVC_EINTERNAL, "apply", NULL, "unknown operation");
	}
}

static bool has_source(const struct nvc_op *op)
{
	return op->kind == NVC_OP_BIND_MOUNT || (op->kind == NVC_OP_DEVICE_NODE && op->arg != 0);
}

#define LOOK_EVERY 16u /* operations: asking for the parent is a system call */

static int check_stop(const struct nvc_ops *ops, uint32_t index, struct nvc_error *err)
{
	if (__atomic_load_n(ops->stop.asked, __ATOMIC_ACQUIRE) == 0 &&
	    (index % LOOK_EVERY != 0 || getppid() == ops->stop.parent))
		return 0;
	return nvc_fail(err, NVC_ECANCEL, "apply", NULL, "stopped: the caller was interrupted");
}

static int take(struct nvc_ops *ops, struct nvc_sources *sources, uint32_t index,
                struct nvc_error *err)
{
	const struct nvc_op *op = &ops->plan->ops[index];

	if (has_source(op))
		return nvc_mount_take(ops->mounter, sources, ops->plan, op, &ops->loose[index],
		                      err);
	if (op->kind == NVC_OP_TMPFS)
		return nvc_mount_take_tmpfs(ops->mounter, op->mode, ops->uid, ops->gid,
		                            &ops->loose[index], err);
	return 0;
}

int nvc_ops_prepare(struct nvc_ops *ops, struct nvc_error *err)
{
	__attribute__((cleanup(nvc_sources_close))) struct nvc_sources sources = nvc_sources_init;

	for (uint32_t i = 0; i < ops->plan->count; i++) {
		*ops->current = i;
		if (check_stop(ops, i, err) < 0 || take(ops, &sources, i, err) < 0) {
			err->op_index = (int)i;
			return -1;
		}
	}
	*ops->current = NVC_OPS_NONE;
	return 0;
}

int nvc_ops_run(struct nvc_ops *ops, struct nvc_error *err)
{
	ops->dirs[0].place.fd = ops->dirs[1].place.fd = -1;
	ops->devlist = (struct nvc_devlist)nvc_devlist_init;
	ops->dir_mode = 0755;
	if (prepare_cache(ops, err) < 0)
		return -1;
	for (uint32_t i = 0; i < ops->plan->count; i++) {
		struct nvc_task task = {.op = &ops->plan->ops[i], .index = (int)i};

		*ops->current = i;
		if (check_stop(ops, i, err) < 0 || do_operation(ops, &task, err) < 0) {
			err->op_index = (int)i;
			return -1;
		}
	}
	return check_stop(ops, 0, err);
}
