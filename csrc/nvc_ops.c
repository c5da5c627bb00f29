/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_ops.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "nvc_cache.h"
#include "nvc_cgroup.h"
#include "nvc_cleanup.h"
#include "nvc_undo.h"

/* One operation at work: where its object goes. */
struct task {
	const struct nvc_op *op;
	int index;
	const char *name;    /* last component of the operation's path */
	char path[PATH_MAX]; /* the place, from the root, free of links before the name */
};

static const char *text_of(const struct nvc_ops *ops, uint32_t offset)
{
	return nvc_plan_text(ops->plan, offset);
}

static int fail_at(const struct nvc_ops *ops, const char *step, const char *path,
                   struct nvc_error *err)
{
	return nvc_fail_errno_at(err, NVC_EMOUNT, step, ops->root.name, path);
}

static void warn(struct nvc_ops *ops, const char *path, const char *what)
{
	size_t len = strlen(ops->warnings), room = NVC_OPS_WARNINGS_MAX - len;

	if (strlen(path) + strlen(what) + 3 >= room)
		return;
	nvc_copy(ops->warnings + len, room, path);
	len += strlen(path);
	nvc_copy(ops->warnings + len, NVC_OPS_WARNINGS_MAX - len, what);
	len += strlen(what);
	nvc_copy(ops->warnings + len, NVC_OPS_WARNINGS_MAX - len, "\n");
}

static int give_to_owner(const struct nvc_ops *ops, int dir_fd, const char *name)
{
	if (ops->uid == 0 && ops->gid == 0)
		return 0;
	return fchownat(dir_fd, name, ops->uid, ops->gid, AT_SYMLINK_NOFOLLOW);
}

static int give_file_to_owner(const struct nvc_ops *ops, int fd)
{
	if (ops->uid == 0 && ops->gid == 0)
		return 0;
	return fchown(fd, ops->uid, ops->gid);
}

/* Note the identity of what a step made. */
static int complete(struct nvc_record *record, int dir_fd, const char *name)
{
	struct stat st;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -1;
	record->dev = st.st_dev;
	record->ino = st.st_ino;
	nvc_journal_mark(record, NVC_RECORD_DONE);
	return 0;
}

static struct nvc_record *begin(struct nvc_ops *ops, enum nvc_step step, const char *path,
                                const char *arg, const char *old, struct nvc_error *err)
{
	struct nvc_entry entry = {
	    .step = step, .op = (int)*ops->current, .path = path, .arg = arg, .old = old};

	return nvc_journal_begin(ops->journal, &entry, err);
}

static int make_directory(struct nvc_ops *ops, int dir_fd, const char *name, const char *path,
                          mode_t mode, struct nvc_error *err)
{
	struct nvc_record *record = begin(ops, NVC_STEP_MKDIR, path, NULL, NULL, err);

	if (record == NULL)
		return -1;
	if (mkdirat(dir_fd, name, mode) < 0 || give_to_owner(ops, dir_fd, name) < 0 ||
	    complete(record, dir_fd, name) < 0)
		return fail_at(ops, "file creation", path, err);
	return 0;
}

static int make_parent(void *cookie, int dir_fd, const char *name, const char *path,
                       struct nvc_error *err)
{
	struct nvc_ops *ops = cookie;

	return make_directory(ops, dir_fd, name, path, ops->dir_mode, err);
}

/* Put `dir` on the directory of the operation's path, making it where it is missing, and spell
 * the place. Neighbours in a plan mostly share it. */
static int go_to_parent(struct nvc_ops *ops, struct task *task, struct nvc_error *err)
{
	const char *path = text_of(ops, task->op->path), *slash = strrchr(path, '/');
	struct nvc_walk how = {.follow = true, .mkdir = make_parent, .cookie = ops};
	size_t len = (size_t)(slash - path);

	task->name = slash + 1;
	if (ops->dir.fd < 0 || strlen(ops->dir_text) != len ||
	    memcmp(ops->dir_text, path, len) != 0) {
		nvc_close_fd(&ops->dir.fd);
		memcpy(ops->dir_text, path, len);
		ops->dir_text[len] = '\0';
		if (nvc_path_walk(&ops->root, len == 0 ? "/" : ops->dir_text, &how, &ops->dir,
		                  err) < 0)
			return -1;
	}
	if (!S_ISDIR(ops->dir.mode)) {
		errno = ENOTDIR;
		return fail_at(ops, "open", ops->dir_text, err);
	}
	len = ops->dir.len + 1 + strlen(task->name) + 1;
	if (task->name[0] == '\0' || strcmp(task->name, ".") == 0 || len > sizeof task->path) {
		errno = EINVAL;
		return fail_at(ops, "open", path, err);
	}
	memcpy(task->path, ops->dir.path, ops->dir.len);
	task->path[ops->dir.len] = '/';
	nvc_copy(task->path + ops->dir.len + 1, sizeof task->path - ops->dir.len - 1, task->name);
	return 0;
}

/* --- mount points --------------------------------------------------------------------------------
 */

static int make_file(struct nvc_ops *ops, const struct task *task, mode_t mode,
                     struct nvc_error *err)
{
	int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
	struct nvc_record *record = begin(ops, NVC_STEP_CREATE, task->path, NULL, NULL, err);

	if (record == NULL)
		return -1;
	nvc_autofd int fd = openat(ops->dir.fd, task->name, flags, mode);
	if (fd < 0 || give_file_to_owner(ops, fd) < 0 ||
	    complete(record, ops->dir.fd, task->name) < 0)
		return fail_at(ops, "file creation", task->path, err);
	return 0;
}

/* Open what is at the place for mounting over, without following a link (a mount covers the link
 * itself); make an empty mount point where nothing is. */
static int open_mount_point(struct nvc_ops *ops, const struct task *task, mode_t source_mode,
                            struct nvc_error *err)
{
	int flags = O_PATH | O_NOFOLLOW | O_CLOEXEC;
	bool want_dir = S_ISDIR(source_mode);
	struct stat st;
	nvc_autofd int fd = openat(ops->dir.fd, task->name, flags);

	if (fd < 0 && errno == ENOENT) {
		mode_t mode = source_mode & 0755;
		int made = want_dir
		               ? make_directory(ops, ops->dir.fd, task->name, task->path, mode, err)
		               : make_file(ops, task, mode, err);
		if (made < 0)
			return -1;
		fd = openat(ops->dir.fd, task->name, flags);
	}
	if (fd < 0 || fstat(fd, &st) < 0)
		return fail_at(ops, "open", task->path, err);
	if (S_ISDIR(st.st_mode) != want_dir) {
		errno = want_dir ? ENOTDIR : EISDIR;
		return fail_at(ops, "mount operation", task->path, err);
	}
	return nvc_steal_fd(&fd);
}

static int attach(struct nvc_ops *ops, const char *path, const struct nvc_loose_mount *mount,
                  int target_fd, struct nvc_error *err)
{
	struct nvc_record *record = begin(ops, NVC_STEP_MOUNT, path, NULL, NULL, err);

	if (record == NULL)
		return -1;
	record->mnt_id = mount->mnt_id;
	record->dev = mount->dev;
	record->ino = mount->ino;
	if (nvc_mount_attach(mount, target_fd, path, err) < 0)
		return -1;
	nvc_journal_mark(record, NVC_RECORD_DONE);
	return 0;
}

static int do_bind(struct nvc_ops *ops, struct task *task, struct nvc_error *err)
{
	struct nvc_loose_mount *mount = &ops->loose[task->index];

	if (go_to_parent(ops, task, err) < 0)
		return -1;
	nvc_autofd int target_fd = open_mount_point(ops, task, mount->mode, err);
	if (target_fd < 0)
		return -1;
	return attach(ops, task->path, mount, target_fd, err);
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

static int mount_tmpfs(struct nvc_ops *ops, const struct task *task, struct nvc_place *at,
                       struct nvc_error *err)
{
	struct nvc_loose_mount mount = {.fd = -1};

	if (nvc_mount_tmpfs(task->op->mode, ops->uid, ops->gid, &mount, err) < 0)
		return -1;
	nvc_autofd int mount_fd = mount.fd;
	nvc_autofd int target_fd = nvc_steal_fd(&at->fd);
	if (attach(ops, at->path, &mount, target_fd, err) < 0)
		return -1;
	ops->tmpfs[ops->tmpfs_count++] = mount.dev;
	nvc_close_fd(&ops->dir.fd); /* the remembered directory may be covered now */
	return 0;
}

/* Make the part of the path that the fall-back does not have, inside the new tmpfs. */
static int make_inside(struct nvc_ops *ops, const struct task *task, const char *path,
                       struct nvc_error *err)
{
	struct nvc_walk how = {.follow = true, .mkdir = make_parent, .cookie = ops};
	struct nvc_place place;

	ops->dir_mode = task->op->mode;
	int result = nvc_path_walk(&ops->root, path, &how, &place, err);
	ops->dir_mode = 0755;
	if (result == 0)
		nvc_close_fd(&place.fd);
	return result;
}

static int do_tmpfs(struct nvc_ops *ops, struct task *task, struct nvc_error *err)
{
	const char *path = text_of(ops, task->op->path), *fallback = text_of(ops, task->op->arg);
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
		return mount_tmpfs(ops, task, &place, err);
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

static int do_directory(struct nvc_ops *ops, struct task *task, struct nvc_error *err)
{
	struct stat st;

	if (go_to_parent(ops, task, err) < 0)
		return -1;
	if (fstatat(ops->dir.fd, task->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? make_directory(ops, ops->dir.fd, task->name, task->path,
		                                        task->op->mode, err)
		                       : fail_at(ops, "stat", task->path, err);
	if (S_ISDIR(st.st_mode))
		return 0;
	errno = ENOTDIR;
	return fail_at(ops, "file creation", task->path, err);
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

static int do_write_file(struct nvc_ops *ops, struct task *task, struct nvc_error *err)
{
	int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
	const char *data = text_of(ops, task->op->data);

	if (go_to_parent(ops, task, err) < 0)
		return -1;
	/* It needs no record of its own: it goes with its tmpfs. */
	if (!is_our_tmpfs(ops, ops->dir.fd))
		return nvc_fail(err, NVC_EINVAL, "check", task->path,
		                "files are written below a tmpfs of the plan only");
	nvc_autofd int fd = openat(ops->dir.fd, task->name, flags, task->op->mode);
	if (fd < 0)
		return fail_at(ops, "file creation", task->path, err);
	for (uint32_t at = 0; at < task->op->data_len;) {
		ssize_t put = write(fd, data + at, task->op->data_len - at);
		if (put <= 0)
			return fail_at(ops, "write", task->path, err);
		at += (uint32_t)put;
	}
	if (give_file_to_owner(ops, fd) < 0)
		return fail_at(ops, "file creation", task->path, err);
	return 0;
}

static int do_device_node(struct nvc_ops *ops, struct task *task, struct nvc_error *err)
{
	const struct nvc_op *op = task->op;
	dev_t number = makedev(op->major, op->minor);
	struct stat st;

	if (op->arg != 0)
		return do_bind(ops, task, err);
	if (go_to_parent(ops, task, err) < 0)
		return -1;
	if (fstatat(ops->dir.fd, task->name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		if (S_ISCHR(st.st_mode) && st.st_rdev == number)
			return 0;
		(void)nvc_fail_errno_at(err, NVC_EDEVICE, "check", ops->root.name, task->path);
		err->sys_errno = 0;
		nvc_copy(err->msg, sizeof err->msg, "invalid device node");
		return -1;
	}
	struct nvc_record *record = begin(ops, NVC_STEP_MKNOD, task->path, NULL, NULL, err);
	if (record == NULL)
		return -1;
	record->major = op->major;
	record->minor = op->minor;
	if (mknodat(ops->dir.fd, task->name, S_IFCHR | op->mode, number) < 0 ||
	    give_to_owner(ops, ops->dir.fd, task->name) < 0 ||
	    complete(record, ops->dir.fd, task->name) < 0)
		return fail_at(ops, "file creation", task->path, err);
	return 0;
}

static int do_device_access(struct nvc_ops *ops, struct task *task, struct nvc_error *err)
{
	const struct nvc_op *op = task->op;
	struct nvc_device_rule rule = {op->major, op->minor,
	                               op->flags & (NVC_OP_READ | NVC_OP_WRITE | NVC_OP_MKNOD)};
	uint32_t missing;

	if (nvc_cgroup_missing(ops->cgroup_fd, &rule, &missing, err) < 0)
		return -1;
	if (missing == 0)
		return 0;
	struct nvc_record *record = begin(ops, NVC_STEP_CGROUP, "/", NULL, NULL, err);
	if (record == NULL)
		return -1;
	record->major = op->major;
	record->minor = op->minor;
	record->access = missing;
	if (nvc_cgroup_allow(ops->cgroup_fd, &rule, err) < 0)
		return -1;
	nvc_journal_mark(record, NVC_RECORD_DONE);
	return 0;
}

/* Give an existing link another text, in one rename. */
static int relink(struct nvc_ops *ops, const struct task *task, const char *target, const char *old,
                  struct nvc_error *err)
{
	struct nvc_record *record = begin(ops, NVC_STEP_RELINK, task->path, target, old, err);

	if (record == NULL)
		return -1;
	if (symlinkat(target, ops->dir.fd, NVC_TEMPORARY_LINK) < 0 ||
	    give_to_owner(ops, ops->dir.fd, NVC_TEMPORARY_LINK) < 0 ||
	    renameat(ops->dir.fd, NVC_TEMPORARY_LINK, ops->dir.fd, task->name) < 0)
		return fail_at(ops, "file creation", task->path, err);
	nvc_journal_mark(record, NVC_RECORD_DONE);
	return 0;
}

static int do_symlink(struct nvc_ops *ops, struct task *task, struct nvc_error *err)
{
	const char *target = text_of(ops, task->op->arg);
	char old[PATH_MAX];
	ssize_t len;

	if (go_to_parent(ops, task, err) < 0)
		return -1;
	len = readlinkat(ops->dir.fd, task->name, old, sizeof old - 1);
	if (len >= 0) {
		old[len] = '\0';
		if ((task->op->flags & NVC_OP_REPLACE) == 0 || strcmp(old, target) == 0)
			return 0;
		return relink(ops, task, target, old, err);
	}
	if (errno == EINVAL) { /* there, and not a link */
		if ((task->op->flags & NVC_OP_REPLACE) != 0)
			warn(ops, task->path, ": the image has a file of its own there: kept");
		return 0;
	}
	if (errno != ENOENT)
		return fail_at(ops, "stat", task->path, err);
	struct nvc_record *record = begin(ops, NVC_STEP_SYMLINK, task->path, target, NULL, err);
	if (record == NULL)
		return -1;
	if (symlinkat(target, ops->dir.fd, task->name) < 0 ||
	    give_to_owner(ops, ops->dir.fd, task->name) < 0 ||
	    complete(record, ops->dir.fd, task->name) < 0)
		return fail_at(ops, "file creation", task->path, err);
	return 0;
}

/* --- the whole plan
 * ---------------------------------------------------------------------------------- */

/* Whether an operation lies below a tmpfs that found no place. */
static bool is_skipped(const struct nvc_ops *ops, const struct nvc_op *op)
{
	const char *path = text_of(ops, op->path);

	for (uint32_t i = 0; i < ops->skipped_count; i++) {
		const char *top = text_of(ops, ops->plan->ops[ops->skipped[i]].path);
		size_t len = strlen(top);
		if (strncmp(path, top, len) == 0 && path[len] == '/')
			return true;
	}
	return false;
}

static int do_operation(struct nvc_ops *ops, struct task *task, struct nvc_error *err)
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
		return do_device_access(ops, task, err);
	case NVC_OP_SYMLINK:
		return do_symlink(ops, task, err);
	case NVC_OP_LOADER_CACHE:
		return nvc_cache_update(&ops->root, ops->journal, ops->plan, task->op, task->index,
		                        ops->program_fd, err);
	default:
		return nvc_fail(err, NVC_EINTERNAL, "apply", NULL, "unknown operation");
	}
}

static bool has_source(const struct nvc_op *op)
{
	return op->kind == NVC_OP_BIND_MOUNT || (op->kind == NVC_OP_DEVICE_NODE && op->arg != 0);
}

int nvc_ops_prepare(struct nvc_ops *ops, struct nvc_error *err)
{
	for (uint32_t i = 0; i < ops->plan->count; i++) {
		*ops->current = i;
		if (!has_source(&ops->plan->ops[i]))
			continue;
		if (nvc_mount_clone(ops->plan, &ops->plan->ops[i], &ops->loose[i], err) < 0) {
			err->op_index = (int)i;
			return -1;
		}
	}
	return 0;
}

int nvc_ops_run(struct nvc_ops *ops, struct nvc_error *err)
{
	ops->dir.fd = -1;
	ops->dir_mode = 0755;
	for (uint32_t i = 0; i < ops->plan->count; i++) {
		struct task task = {.op = &ops->plan->ops[i], .index = (int)i};

		*ops->current = i;
		if (do_operation(ops, &task, err) < 0) {
			err->op_index = (int)i;
			return -1;
		}
	}
	return 0;
}
