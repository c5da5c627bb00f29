/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "nvc_cleanup.h"
#include "nvc_ldconfig.h"
#include "nvc_text.h"

#define CACHE_DIR  "/etc"
#define CACHE_NAME "ld.so.cache"
#define CACHE_PATH CACHE_DIR "/" CACHE_NAME
#define TEMPORARY  ".ld.so.cache.libnvc"
#define UNFINISHED CACHE_NAME "~" /* what ldconfig writes before it renames */

static int fail(const struct nvc_root *root, const char *step, struct nvc_error *err)
{
	return nvc_fail_errno_at(err, NVC_ELDCACHE, step, root->name, CACHE_PATH);
}

/* The directory of the cache, -1 without an error if the container has none. */
static int open_dir(const struct nvc_root *root, int *out, struct nvc_error *err)
{
	struct nvc_walk how = {.follow = true};
	struct nvc_place place;

	if (nvc_path_walk(root, CACHE_DIR, &how, &place, err) < 0)
		return -1;
	if (place.fd >= 0 && !S_ISDIR(place.mode))
		nvc_close_fd(&place.fd);
	*out = place.fd;
	return 0;
}

/* Read up to `size` bytes. */
static ssize_t read_all(int fd, uint8_t *buf, size_t size)
{
	size_t len = 0;

	while (len < size) {
		ssize_t got = read(fd, buf + len, size - len);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -1 : (ssize_t)len;
		len += (size_t)got;
	}
	return (ssize_t)len;
}

/* Open a regular file for reading. Nothing else is opened: to open a device may be to use it. */
static int open_regular(const struct nvc_root *root, int dir_fd, struct stat *st)
{
	char name[16], *end = name + sizeof name;
	nvc_autofd int fd = openat(dir_fd, CACHE_NAME, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 || fstat(fd, st) < 0)
		return -1;
	if (!S_ISREG(st->st_mode)) {
		errno = EINVAL;
		return -1;
	}
	return openat(root->fds_fd, nvc_digits(end, (unsigned)fd, 10), O_RDONLY | O_CLOEXEC);
}

static int save(const struct nvc_root *root, int dir_fd, struct nvc_journal *journal,
                struct nvc_error *err)
{
	struct nvc_journal_file *file = journal->file;
	struct stat st;

	file->had_temporary = fstatat(dir_fd, UNFINISHED, &st, AT_SYMLINK_NOFOLLOW) == 0;
	nvc_autofd int fd = open_regular(root, dir_fd, &st);
	if (fd < 0)
		return errno == ENOENT ? 0 : fail(root, "open", err);
	if ((uint64_t)st.st_size > NVC_JOURNAL_CACHE_MAX) {
		errno = EFBIG;
		return fail(root, "read", err);
	}
	if (nvc_journal_reserve_cache(journal, (size_t)st.st_size, err) < 0)
		return -1;
	ssize_t len = read_all(fd, journal->cache, (size_t)st.st_size);
	if (len < 0)
		return fail(root, "read", err);
	file->cache_len = (uint64_t)len;
	file->cache_mode = st.st_mode & 07777;
	file->cache_uid = st.st_uid;
	file->cache_gid = st.st_gid;
	file->cache_mtime_sec = st.st_mtim.tv_sec;
	file->cache_mtime_nsec = st.st_mtim.tv_nsec;
	file->had_cache = 1;
	return 0;
}

/* Run ldconfig. Where its own words are all there is, they are about the cache. */
static int run(const struct nvc_root *root, const struct nvc_ldconfig *job, struct nvc_error *err)
{
	char words[sizeof err->msg];

	if (nvc_ldconfig_run(job, err) == 0)
		return 0;
	if (err->path[0] == '\0') {
		nvc_copy(words, sizeof words, err->msg);
		errno = 0;
		(void)fail(root, "run", err);
		nvc_copy(err->msg, sizeof err->msg, words);
	}
	return -1;
}

int nvc_cache_update(const struct nvc_root *root, struct nvc_journal *journal,
                     const struct nvc_plan *plan, const struct nvc_op *op, int op_index,
                     struct nvc_program program, struct nvc_error *err)
{
	struct nvc_ldconfig job = {.program = program,
	                           .root_fd = root->fd,
	                           .uid = journal->file->uid,
	                           .gid = journal->file->gid,
	                           .directories = nvc_plan_text(plan, op->data),
	                           .directories_len = op->data_len};
	int found_fd = -1;
	struct stat st;

	if (strcmp(nvc_plan_text(plan, op->path), CACHE_PATH) != 0)
		return nvc_fail(err, NVC_EINVAL, "check", nvc_plan_text(plan, op->path),
		                "the loader cache is always " CACHE_PATH);
	if (open_dir(root, &found_fd, err) < 0)
		return -1;
	nvc_autofd int dir_fd = found_fd;
	if (dir_fd < 0) {
		errno = ENOENT;
		return fail(root, "open", err);
	}
	if (save(root, dir_fd, journal, err) < 0)
		return -1;
	struct nvc_entry entry = {.step = NVC_STEP_CACHE, .op = op_index, .path = CACHE_PATH};
	struct nvc_record *record = nvc_journal_begin(journal, &entry, err);
	if (record == NULL || run(root, &job, err) < 0)
		return -1;
	if (fstatat(dir_fd, CACHE_NAME, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return fail(root, "stat", err);
	record->made.dev = st.st_dev;
	record->made.ino = st.st_ino;
	nvc_journal_mark(record, NVC_RECORD_DONE);
	return 0;
}

static bool is_file(const struct stat *st, const struct nvc_mount_id *id)
{
	return st->st_dev == id->dev && st->st_ino == id->ino;
}

/* Write the saved cache under a temporary name, and note what file that is. */
static int write_saved(const struct nvc_journal *journal, struct nvc_record *record, int dir_fd)
{
	const struct nvc_journal_file *file = journal->file;
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
	                            {file->cache_mtime_sec, file->cache_mtime_nsec}};
	struct stat st;
	nvc_autofd int fd =
	    openat(dir_fd, TEMPORARY, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return -1;
	for (size_t at = 0; at < file->cache_len;) {
		ssize_t put = write(fd, journal->cache + at, file->cache_len - at);
		if (put < 0 && errno != EINTR)
			return -1;
		at += put > 0 ? (size_t)put : 0;
	}
	/* The owner first: chown clears mode bits. */
	if (fchown(fd, file->cache_uid, file->cache_gid) < 0 || fchmod(fd, file->cache_mode) < 0 ||
	    futimens(fd, times) < 0 || fstat(fd, &st) < 0)
		return -1;
	record->was.dev = st.st_dev;
	record->was.ino = st.st_ino;
	return 0;
}

/* Remove a file, which may be missing. */
static int remove_file(const struct nvc_root *root, int dir_fd, const char *name,
                       struct nvc_error *err)
{
	return unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT ? 0 : fail(root, "remove", err);
}

static int put_back(const struct nvc_root *root, const struct nvc_journal *journal,
                    struct nvc_record *record, int dir_fd, struct nvc_error *err)
{
	if (journal->file->had_cache == 0)
		return remove_file(root, dir_fd, CACHE_NAME, err);
	if (remove_file(root, dir_fd, TEMPORARY, err) < 0)
		return -1;
	if (write_saved(journal, record, dir_fd) < 0 ||
	    renameat(dir_fd, TEMPORARY, dir_fd, CACHE_NAME) < 0) {
		(void)fail(root, "restore", err);
		(void)unlinkat(dir_fd, TEMPORARY, 0);
		return -1;
	}
	return 0;
}

int nvc_cache_restore(const struct nvc_root *root, struct nvc_journal *journal,
                      struct nvc_record *record, struct nvc_error *err)
{
	int found_fd = -1;
	struct stat st;

	if (open_dir(root, &found_fd, err) < 0)
		return -1;
	nvc_autofd int dir_fd = found_fd;
	if (dir_fd < 0)
		return 0;
	if (record->state != NVC_RECORD_DONE) {
		if (journal->file->had_temporary == 0 &&
		    remove_file(root, dir_fd, UNFINISHED, err) < 0)
			return -1;
		return put_back(root, journal, record, dir_fd, err);
	}
	/* Somebody may have died after it was put back. */
	bool there = fstatat(dir_fd, CACHE_NAME, &st, AT_SYMLINK_NOFOLLOW) == 0;
	if (there ? is_file(&st, &record->was) : journal->file->had_cache == 0)
		return 0;
	return there && is_file(&st, &record->made) ? put_back(root, journal, record, dir_fd, err)
	                                            : NVC_CACHE_CHANGED;
}

int nvc_cache_rebuild(const struct nvc_root *root, struct nvc_journal *journal,
                      struct nvc_program program, struct nvc_error *err)
{
	struct nvc_ldconfig job = {.program = program,
	                           .root_fd = root->fd,
	                           .uid = journal->file->uid,
	                           .gid = journal->file->gid};

	if (program.fd < 0)
		return nvc_fail(err, NVC_ELDCACHE, "rebuild", CACHE_PATH, "no ldconfig to run");
	return run(root, &job, err);
}
