/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_steps.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "nvc_cleanup.h"

int nvc_step_fail(const struct nvc_ops *ops, const char *step, const char *path,
                  struct nvc_error *err)
{
	return nvc_fail_errno_at(err, NVC_EMOUNT, step, ops->root.name, path);
}

int nvc_step_complete(struct nvc_record *record, int fd, const char *name)
{
	struct stat st;

	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) < 0)
		return -1;
	record->made.dev = st.st_dev;
	record->made.ino = st.st_ino;
	nvc_journal_mark(record, NVC_RECORD_DONE);
	return 0;
}

int nvc_step_failed(const struct nvc_ops *ops, struct nvc_record *record, const char *path,
                    struct nvc_error *err)
{
	if (errno == EEXIST)
		nvc_journal_mark(record, NVC_RECORD_UNDONE);
	return nvc_step_fail(ops, "file creation", path, err);
}

struct nvc_record *nvc_step_begin(struct nvc_ops *ops, enum nvc_step step, const char *path,
                                  const char *arg, const char *old, struct nvc_error *err)
{
	struct nvc_entry entry = {
	    .step = step, .op = (int)*ops->current, .path = path, .arg = arg, .old = old};

	return nvc_journal_begin(ops->journal, &entry, err);
}

int nvc_step_mkdir(struct nvc_ops *ops, int dir_fd, const char *name, const char *path, mode_t mode,
                   struct nvc_error *err)
{
	struct nvc_record *record = nvc_step_begin(ops, NVC_STEP_MKDIR, path, NULL, NULL, err);

	if (record == NULL)
		return -1;
	if (mkdirat(dir_fd, name, mode) < 0 || nvc_step_complete(record, dir_fd, name) < 0)
		return nvc_step_failed(ops, record, path, err);
	return 0;
}

int nvc_step_make_parent(void *cookie, int dir_fd, const char *name, const char *path,
                         struct nvc_error *err)
{
	struct nvc_ops *ops = cookie;

	return nvc_step_mkdir(ops, dir_fd, name, path, ops->dir_mode, err);
}

static bool is_at(const struct nvc_dir *dir, const char *path, size_t len)
{
	return dir->place.fd >= 0 && strncmp(dir->text, path, len) == 0 && dir->text[len] == '\0';
}

/* Put `ops->dir` on a directory: one that is remembered, or in the place of the other one. */
static int go(struct nvc_ops *ops, const char *path, size_t len, struct nvc_error *err)
{
	struct nvc_walk how = {.follow = true, .mkdir = nvc_step_make_parent, .cookie = ops};
	struct nvc_dir *dir = &ops->dirs[0];

	for (int i = 0; i < 2; i++) {
		if (is_at(&ops->dirs[i], path, len)) {
			ops->dir = &ops->dirs[i].place;
			return 0;
		}
	}
	if (ops->dir == &dir->place)
		dir = &ops->dirs[1];
	ops->dir = &dir->place;
	nvc_close_fd(&dir->place.fd);
	memcpy(dir->text, path, len);
	dir->text[len] = '\0';
	return nvc_path_walk(&ops->root, len == 0 ? "/" : dir->text, &how, &dir->place, err);
}

int nvc_step_go(struct nvc_ops *ops, struct nvc_task *task, struct nvc_error *err)
{
	const char *path = nvc_task_text(ops, task->op->path), *slash = strrchr(path, '/');
	size_t len = (size_t)(slash - path);

	task->name = slash + 1;
	if (go(ops, path, len, err) < 0)
		return -1;
	if (!S_ISDIR(ops->dir->mode)) {
		char shown[PATH_MAX];

		memcpy(shown, path, len);
		shown[len] = '\0';
		errno = ENOTDIR;
		return nvc_step_fail(ops, "open", shown, err);
	}
	len = ops->dir->len + 1 + strlen(task->name) + 1;
	if (task->name[0] == '\0' || strcmp(task->name, ".") == 0 || len > sizeof task->path) {
		errno = EINVAL;
		return nvc_step_fail(ops, "open", path, err);
	}
	memcpy(task->path, ops->dir->path, ops->dir->len);
	task->path[ops->dir->len] = '/';
	nvc_copy(task->path + ops->dir->len + 1, sizeof task->path - ops->dir->len - 1, task->name);
	return 0;
}

/* Forget the directories that a mount at `path` covers. */
static void forget_below(struct nvc_ops *ops, const char *path)
{
	size_t len = strlen(path);

	for (int i = 0; i < 2; i++) {
		struct nvc_place *dir = &ops->dirs[i].place;
		if (strncmp(dir->path, path, len) == 0 &&
		    (dir->path[len] == '/' || dir->path[len] == '\0'))
			nvc_close_fd(&dir->fd);
	}
}

/* --- mount points --------------------------------------------------------------------------------
 */

/* Note what a step made, by its descriptor. */
static int note(struct nvc_record *record, int fd, struct nvc_mount_id *id)
{
	mode_t mode;

	if (nvc_mount_look(fd, id, &mode) < 0)
		return -1;
	record->made.dev = id->dev;
	record->made.ino = id->ino;
	nvc_journal_mark(record, NVC_RECORD_DONE);
	return 0;
}

/* Make an empty file, or directory, and open it. Returns the fd. */
static int make_mount_point(struct nvc_ops *ops, const struct nvc_task *task, mode_t mode,
                            struct nvc_mount_id *id, struct nvc_error *err)
{
	int made = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
	bool is_dir = S_ISDIR(mode);
	struct nvc_record *record = nvc_step_begin(ops, is_dir ? NVC_STEP_MKDIR : NVC_STEP_CREATE,
	                                           task->path, NULL, NULL, err);

	if (record == NULL)
		return -1;
	nvc_autofd int fd = -1;
	if (!is_dir)
		fd = openat(ops->dir->fd, task->name, made, mode & 0755);
	else if (mkdirat(ops->dir->fd, task->name, mode & 0755) == 0)
		fd = openat(ops->dir->fd, task->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || note(record, fd, id) < 0)
		return nvc_step_failed(ops, record, task->path, err);
	return nvc_steal_fd(&fd);
}

/* Look first: of a record that was only begun, nobody knows whether an empty file is ours. */
int nvc_step_mount_point(struct nvc_ops *ops, const struct nvc_task *task, mode_t source_mode,
                         struct nvc_mount_point *out, struct nvc_error *err)
{
	bool want_dir = S_ISDIR(source_mode);
	mode_t mode;
	nvc_autofd int fd = openat(ops->dir->fd, task->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	*out = (struct nvc_mount_point){
	    .dir_fd = ops->dir->fd, .name = task->name, .root = ops->root.name, .path = task->path};
	if (fd < 0 && errno == ENOENT) {
		out->target_fd = make_mount_point(ops, task, source_mode, &out->below, err);
		return out->target_fd < 0 ? -1 : 0;
	}
	if (fd < 0 || nvc_mount_look(fd, &out->below, &mode) < 0)
		return nvc_step_fail(ops, "open", task->path, err);
	if (S_ISDIR(mode) != want_dir) {
		errno = want_dir ? ENOTDIR : EISDIR;
		return nvc_step_fail(ops, "mount operation", task->path, err);
	}
	out->target_fd = nvc_steal_fd(&fd);
	return 0;
}

/* Take the mount that we are about to attach below out of its peer group. `*root_fd` is -1 where it
 * has no peers. */
static int leave_group(struct nvc_ops *ops, const struct nvc_mount_point *at,
                       struct nvc_record **record, int *root_fd, struct nvc_error *err)
{
	bool shared;

	*root_fd = -1;
	if (nvc_groups_is_shared(ops->groups, at->below.mnt_id, &shared) < 0)
		return nvc_step_fail(ops, "stat", at->path, err);
	if (!shared)
		return 0;
	if (ops->mounter->way != NVC_MOUNTS_NEW)
		return nvc_fail(err, NVC_EKERNEL, "mount operation", at->path,
		                "below a mount that has peers: needs kernel 5.15 or newer, or a "
		                "container whose root propagation is slave or private");
	*root_fd = nvc_groups_climb(at->dir_fd, at->target_fd);
	if (*root_fd < 0)
		return nvc_step_fail(ops, "mount root", at->path, err);
	*record = nvc_step_begin(ops, NVC_STEP_LEAVE, at->path, NULL, NULL, err);
	if (*record == NULL)
		return -1;
	(*record)->made = at->below;
	if (nvc_groups_leave(ops->groups, *root_fd) < 0)
		return nvc_step_fail(ops, "mount propagation", at->path, err);
	return 0;
}

static int return_to_group(struct nvc_ops *ops, struct nvc_record *record, int root_fd,
                           const char *path, struct nvc_error *err)
{
	if (nvc_groups_return(ops->groups, root_fd, record->made.mnt_id) < 0)
		return nvc_step_fail(ops, "mount propagation", path, err);
	nvc_journal_mark(record, NVC_RECORD_UNDONE);
	return 0;
}

static int attach_alone(struct nvc_ops *ops, const struct nvc_loose_mount *mount,
                        const struct nvc_mount_point *at, struct nvc_mount_id *id,
                        struct nvc_error *err)
{
	struct nvc_record *record = nvc_step_begin(ops, NVC_STEP_MOUNT, at->path, NULL, NULL, err);

	if (record == NULL)
		return -1;
	record->was = at->below;
	if (mount->fd >= 0)
		record->made = mount->id;
	if (nvc_mount_attach(ops->mounter, mount, at, id, err) < 0)
		return -1;
	record->made = *id;
	nvc_journal_mark(record, NVC_RECORD_DONE);
	return 0;
}

int nvc_step_attach(struct nvc_ops *ops, const struct nvc_loose_mount *mount,
                    const struct nvc_mount_point *at, struct nvc_mount_id *id,
                    struct nvc_error *err)
{
	struct nvc_record *left = NULL;
	int found_fd = -1;

	if (leave_group(ops, at, &left, &found_fd, err) < 0) {
		nvc_close_fd(&found_fd);
		return -1;
	}
	nvc_autofd int root_fd = found_fd;
	if (attach_alone(ops, mount, at, id, err) < 0)
		return -1;
	if (S_ISDIR(mount->mode))
		forget_below(ops, at->path);
	return left == NULL ? 0 : return_to_group(ops, left, root_fd, at->path, err);
}
