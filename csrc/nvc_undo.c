/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_undo.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "nvc_cleanup.h"
#include "nvc_devlist.h"
#include "nvc_devprog.h"
#include "nvc_loader.h"
#include "nvc_mount.h"
#include "nvc_syscalls.h"

/* Beside 0 (undone) and NVC_CACHE_CHANGED: nothing that is certainly ours is there, or it is in
 * use. Then it is somebody else's now, unless what of ours could not be undone covers it. */
#define NOT_OURS 2

_Static_assert(NOT_OURS != NVC_CACHE_CHANGED, "one word for each");

/* Where a record's object is, as far as it is still there. */
struct spot {
	int dir_fd; /* parent directory, or -1 if that is gone */
	const char *name;
	const char *arg;
	char path[PATH_MAX];
};

static int find_spot(const struct nvc_undo *job, const struct nvc_record *record, struct spot *out,
                     struct nvc_error *err)
{
	const char *path = (const char *)record + offsetof(struct nvc_record, text);
	const char *slash = strrchr(path, '/');
	struct nvc_walk how = {.follow = true};
	struct nvc_place place;

	out->dir_fd = -1;
	out->arg = path + record->arg;
	if (slash == NULL)
		return nvc_fail(err, NVC_EMALFORMED, "parse", path, "not a path");
	out->name = slash + 1;
	size_t len = (size_t)(slash - path);
	if (len >= sizeof out->path)
		return nvc_fail(err, NVC_EMALFORMED, "parse", path, "path too long");
	memcpy(out->path, path, len);
	out->path[len] = '\0';
	if (nvc_path_walk(job->root, len == 0 ? "/" : out->path, &how, &place, err) < 0)
		return -1;
	if (place.fd >= 0 && !S_ISDIR(place.mode))
		nvc_close_fd(&place.fd);
	out->dir_fd = place.fd;
	return 0;
}

/* Whether the object at the spot is the one that the record made. A record that was only begun
 * has no identity yet; then the type has to do, and the call that removes is the careful one. */
static bool is_ours(const struct nvc_record *record, const struct spot *spot, mode_t type,
                    struct stat *st)
{
	if (fstatat(spot->dir_fd, spot->name, st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    (st->st_mode & S_IFMT) != type)
		return false;
	return record->state == NVC_RECORD_BEGUN ||
	       (st->st_dev == record->made.dev && st->st_ino == record->made.ino);
}

static bool link_says(const struct spot *spot, const char *text)
{
	char target[PATH_MAX];
	ssize_t len = readlinkat(spot->dir_fd, spot->name, target, sizeof target);

	return len >= 0 && (size_t)len == strlen(text) && memcmp(target, text, (size_t)len) == 0;
}

static int remove_at(const struct spot *spot, int flags)
{
	if (unlinkat(spot->dir_fd, spot->name, flags) == 0 || errno == ENOENT)
		return 0;
	return errno == ENOTEMPTY || errno == EEXIST || errno == EBUSY ? NOT_OURS : -1;
}

/* Unmounting below a shared mount would unmount in the same place of all its peers. */
static int remove_mount(const struct nvc_undo *job, const struct spot *spot, const char *path)
{
	struct nvc_entry entry = {.step = NVC_STEP_LEAVE, .op = -1, .path = path};
	struct nvc_mount_id below;
	struct nvc_error err;
	bool shared;

	if (nvc_mount_identify(spot->dir_fd, "", &below) < 0 ||
	    nvc_groups_is_shared(job->groups, below.mnt_id, &shared) < 0)
		return -1;
	if (!shared)
		return nvc_mount_remove(spot->dir_fd, spot->name);
	nvc_autofd int root_fd = nvc_groups_climb(spot->dir_fd, spot->dir_fd);
	struct nvc_record *record = nvc_journal_begin(job->journal, &entry, &err);
	if (root_fd < 0 || record == NULL)
		return -1;
	record->made = below;
	if (nvc_groups_leave(job->groups, root_fd) < 0 ||
	    nvc_mount_remove(spot->dir_fd, spot->name) < 0 ||
	    nvc_groups_return(job->groups, root_fd, below.mnt_id) < 0)
		return -1;
	nvc_journal_mark(record, NVC_RECORD_UNDONE);
	return 0;
}

static int undo_mount(const struct nvc_undo *job, const struct nvc_record *record,
                      const struct spot *spot)
{
	const char *path = (const char *)record + offsetof(struct nvc_record, text);
	struct nvc_mount_id top;
	bool ours, elsewhere = false;

	if (nvc_mount_identify(spot->dir_fd, spot->name, &top) < 0)
		return errno == ENOENT ? NOT_OURS : -1;
	/* Where the identity was not known before, what the mount covers was. */
	if (record->made.ino != 0)
		ours = nvc_mount_is_same(&top, &record->made);
	else
		ours = record->was.ino != 0 && !nvc_mount_is_same(&top, &record->was);
	if (ours)
		return remove_mount(job, spot, path);
	/* Covered by somebody, or moved with the directory that it is in: then it is not gone. */
	if (record->made.mnt_id != 0 &&
	    nvc_groups_has(job->groups, record->made.mnt_id, &elsewhere) < 0)
		return -1;
	errno = EBUSY;
	return elsewhere ? -1 : NOT_OURS;
}

/* The mount that the spot's directory is in, or the spot itself is the root of, goes back. */
static int undo_leave(const struct nvc_undo *job, const struct nvc_record *record,
                      const struct spot *spot)
{
	struct nvc_mount_id now;
	nvc_autofd int fd = openat(spot->dir_fd, spot->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	bool at_root =
	    fd >= 0 && nvc_mount_identify(fd, "", &now) == 0 && now.mnt_id == record->made.mnt_id;
	nvc_autofd int root_fd = nvc_groups_climb(spot->dir_fd, at_root ? fd : spot->dir_fd);

	if (root_fd < 0 || nvc_mount_identify(root_fd, "", &now) < 0)
		return -1;
	if (now.mnt_id != record->made.mnt_id)
		return NOT_OURS;
	return nvc_groups_return(job->groups, root_fd, now.mnt_id);
}

/* Put the old text back; a killed worker may have left the prepared link. */
static int undo_relink(const struct spot *spot, const char *new_text, const char *old_text)
{
	if (unlinkat(spot->dir_fd, NVC_TEMPORARY_LINK, 0) < 0 && errno != ENOENT)
		return -1;
	if (!link_says(spot, new_text))
		return NOT_OURS;
	if (symlinkat(old_text, spot->dir_fd, NVC_TEMPORARY_LINK) < 0)
		return -1;
	return renameat(spot->dir_fd, NVC_TEMPORARY_LINK, spot->dir_fd, spot->name);
}

/* A cgroup goes with its container; without it there is no rule either. */
static int undo_devlist(const struct nvc_undo *job, const struct nvc_record *record,
                        struct nvc_error *err)
{
	struct nvc_device_rule rule = {record->major, record->minor, 1, record->access};

	if (job->cgroup->v1_fd < 0 || rule.access == 0)
		return 0;
	return nvc_devlist_deny(job->cgroup, &rule, err);
}

static int undo_devprog(const struct nvc_undo *job, const struct nvc_record *record,
                        struct nvc_error *err)
{
	return job->cgroup->v2_fd < 0 ? 0 : nvc_devprog_deny(job->cgroup, record->tag, err);
}

/* The steps that concern one name in one directory. Returns 0, NOT_OURS or -1 with errno. */
static int undo_at(const struct nvc_undo *job, const struct nvc_record *record,
                   const struct spot *spot)
{
	const char *new_text = spot->arg, *old_text = spot->arg + strlen(spot->arg) + 1;
	struct stat st;

	switch (record->step) {
	case NVC_STEP_MKDIR:
		return is_ours(record, spot, S_IFDIR, &st) ? remove_at(spot, AT_REMOVEDIR)
		                                           : NOT_OURS;
	case NVC_STEP_CREATE:
		return is_ours(record, spot, S_IFREG, &st) && st.st_size == 0 ? remove_at(spot, 0)
		                                                              : NOT_OURS;
	case NVC_STEP_MKNOD:
		return is_ours(record, spot, S_IFCHR, &st) &&
		               st.st_rdev == makedev(record->major, record->minor)
		           ? remove_at(spot, 0)
			   : NOT_OURS;
	case NVC_STEP_SYMLINK:
		return link_says(spot, new_text) ? remove_at(spot, 0) : NOT_OURS;
	case NVC_STEP_RELINK:
		return undo_relink(spot, new_text, old_text);
	case NVC_STEP_MOUNT:
		return undo_mount(job, record, spot);
	case NVC_STEP_LEAVE:
		return undo_leave(job, record, spot);
	default:
		errno = EINVAL;
		return -1;
	}
}

static int undo_record(const struct nvc_undo *job, struct nvc_record *record, struct nvc_error *err)
{
	struct spot spot;
	int result;

	if (record->step == NVC_STEP_DEVLIST)
		return undo_devlist(job, record, err);
	if (record->step == NVC_STEP_DEVPROG)
		return undo_devprog(job, record, err);
	if (record->step == NVC_STEP_CACHE)
		return nvc_cache_restore(job->root, job->journal, record, err);
	if (find_spot(job, record, &spot, err) < 0)
		return -1;
	nvc_autofd int dir_fd = spot.dir_fd;
	if (dir_fd < 0)
		return NOT_OURS;
	result = undo_at(job, record, &spot);
	if (result < 0)
		(void)nvc_fail_errno_at(err, NVC_EMOUNT, "undo", job->root->name,
		                        (const char *)record + offsetof(struct nvc_record, text));
	return result;
}

int nvc_undo_rules(const struct nvc_undo *job, struct nvc_error *err)
{
	int worst = 0;

	for (struct nvc_record *record = NULL;
	     (record = nvc_journal_before(job->journal, record)) != NULL;) {
		if (record->state == NVC_RECORD_UNDONE ||
		    (record->step != NVC_STEP_DEVLIST && record->step != NVC_STEP_DEVPROG))
			continue;
		if (undo_record(job, record, err) < 0)
			worst = -1;
		else
			nvc_journal_mark(record, NVC_RECORD_UNDONE);
	}
	return worst;
}

int nvc_undo_all(const struct nvc_undo *job, struct nvc_error *err)
{
	struct nvc_error first = {.code = NVC_OK};
	struct nvc_record *record = NULL, *cache = NULL;

	while ((record = nvc_journal_before(job->journal, record)) != NULL) {
		if (record->state == NVC_RECORD_UNDONE)
			continue;
		int result = undo_record(job, record, err);
		if (result < 0) {
			err->op_index = record->op;
			if (first.code == NVC_OK)
				first = *err;
			continue;
		}
		if (result == NOT_OURS && first.code != NVC_OK)
			continue; /* another try finds out */
		if (result == NVC_CACHE_CHANGED)
			cache = record;
		else
			nvc_journal_mark(record, NVC_RECORD_UNDONE);
	}
	/* Somebody rewrote the cache since; now that our files are gone, so do our entries. */
	if (cache != NULL && first.code == NVC_OK) {
		if (nvc_loader_rebuild(job->root, err) == 0) {
			nvc_journal_mark(cache, NVC_RECORD_UNDONE);
		} else {
			err->op_index = cache->op;
			first = *err;
		}
	}
	if (first.code == NVC_OK)
		return 0;
	*err = first;
	return -1;
}
