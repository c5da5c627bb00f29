/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "nvc_cleanup.h"
#include "nvc_io.h"
#include "nvc_text.h"

#define TEMPORARY  ".ld.so.cache.libnvc"
#define UNFINISHED NVC_CACHE_NAME "~" /* what ldconfig writes before it renames */

/* How the record of a cache that ldconfig writes is marked: nobody knows the file before it is
 * done. */
#define BY_LDCONFIG 1u

static int fail(const struct nvc_root *root, const char *step, const char *name,
                struct nvc_error *err)
{
	char path[NAME_MAX] = NVC_CACHE_DIR "/";

	nvc_copy(path + strlen(path), sizeof path - strlen(path), name);
	return nvc_fail_errno_at(err, NVC_ELDCACHE, step, root->name, path);
}

int nvc_cache_open(const struct nvc_root *root, const char *name, struct nvc_cache *out,
                   struct nvc_error *err)
{
	struct nvc_walk how = {.follow = true};
	struct nvc_place place;

	*out = (struct nvc_cache){.name = name, .dir_fd = -1};
	if (nvc_path_walk(root, NVC_CACHE_DIR, &how, &place, err) < 0)
		return -1;
	if (place.fd >= 0 && !S_ISDIR(place.mode))
		nvc_close_fd(&place.fd);
	out->dir_fd = place.fd;
	return 0;
}

int nvc_cache_save(const struct nvc_root *root, struct nvc_cache *cache,
                   struct nvc_journal *journal, struct nvc_error *err)
{
	struct nvc_journal_file *file = journal->file;
	struct stat st;
	nvc_autofd int path_fd =
	    openat(cache->dir_fd, cache->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	if (path_fd < 0)
		return errno == ENOENT ? 0 : fail(root, "open", cache->name, err);
	nvc_autofd int fd = nvc_path_reopen(root, path_fd, &st);
	if (fd < 0)
		return fail(root, "open", cache->name, err);
	if ((uint64_t)st.st_size > NVC_JOURNAL_CACHE_MAX) {
		errno = EFBIG;
		return fail(root, "read", cache->name, err);
	}
	if (nvc_journal_reserve_cache(journal, (size_t)st.st_size, err) < 0)
		return -1;
	ssize_t len = nvc_read_all(fd, journal->cache, (size_t)st.st_size);
	if (len < 0)
		return fail(root, "read", cache->name, err);
	file->cache_len = (uint64_t)len;
	file->cache_mode = st.st_mode & 07777;
	file->cache_uid = st.st_uid;
	file->cache_gid = st.st_gid;
	file->cache_mtime_sec = st.st_mtim.tv_sec;
	file->cache_mtime_nsec = st.st_mtim.tv_nsec;
	file->had_cache = 1;
	cache->exists = true;
	cache->mtime = st.st_mtim;
	return 0;
}

/* --- replacing ----------------------------------------------------------------------------------
 */

/* Remove a file, which may be missing; a directory, or what somebody mounted, is not ours. */
static int remove_file(const struct nvc_root *root, int dir_fd, const char *name,
                       struct nvc_error *err)
{
	struct stat st;

	if (unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT || errno == EISDIR || errno == EBUSY)
		return 0;
	/* What is missing is not told from what is there on a read-only file system. */
	if (errno == EROFS && fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 &&
	    errno == ENOENT)
		return 0;
	return fail(root, "remove", name, err);
}

/* Make the file that is renamed later; what somebody who was killed left goes. -1 with errno. */
static int make_temporary(int dir_fd, mode_t mode)
{
	int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
	int fd = openat(dir_fd, TEMPORARY, flags, mode);

	if (fd < 0 && errno == EEXIST && unlinkat(dir_fd, TEMPORARY, 0) == 0)
		fd = openat(dir_fd, TEMPORARY, flags, mode);
	return fd;
}

/* A cache is known by its size and by when it was written: a newer journal that puts it back makes
 * another file of it, and another file may get its inode number. */
static struct nvc_mount_id identify(const struct stat *st)
{
	return (struct nvc_mount_id){.dev = (uint64_t)st->st_size,
	                             .ino = (uint64_t)st->st_mtim.tv_sec * 1000000000u +
	                                    (uint64_t)st->st_mtim.tv_nsec};
}

static bool is_file(const struct stat *st, const struct nvc_mount_id *id)
{
	struct nvc_mount_id found = identify(st);

	return nvc_mount_is_same(&found, id);
}

/* 0, or -1 with errno and what failed: `step`, at `name`. */
static int write_and_rename(const struct nvc_cache *cache, const void *data, size_t len,
                            struct nvc_record *record, const char **step, const char **name)
{
	struct stat st;
	nvc_autofd int fd = make_temporary(cache->dir_fd, 0644);

	*step = "file creation";
	*name = TEMPORARY;
	if (fd < 0)
		return -1;
	*step = "write";
	*name = cache->name;
	if (nvc_write_all(fd, data, len) < 0 || fstat(fd, &st) < 0)
		return -1;
	if (record != NULL)
		record->made = identify(&st);
	*step = "rename";
	return renameat(cache->dir_fd, TEMPORARY, cache->dir_fd, cache->name);
}

static struct nvc_record *begin(const struct nvc_cache *cache, struct nvc_journal *journal,
                                int op_index, struct nvc_error *err)
{
	char path[NAME_MAX] = NVC_CACHE_DIR "/";
	struct nvc_entry entry = {.step = NVC_STEP_CACHE, .op = op_index, .path = path};

	nvc_copy(path + strlen(path), sizeof path - strlen(path), cache->name);
	return nvc_journal_begin(journal, &entry, err);
}

int nvc_cache_replace(const struct nvc_root *root, const struct nvc_cache *cache, const void *data,
                      size_t len, struct nvc_journal *journal, int op_index, struct nvc_error *err)
{
	struct nvc_record *record = journal == NULL ? NULL : begin(cache, journal, op_index, err);
	const char *step, *name;

	if (journal != NULL && record == NULL)
		return -1;
	if (write_and_rename(cache, data, len, record, &step, &name) == 0) {
		if (record != NULL)
			nvc_journal_mark(record, NVC_RECORD_DONE);
		return 0;
	}
	bool is_fixed = errno == EROFS || errno == EBUSY;
	(void)fail(root, step, name, err);
	/* Where it was not made, what cannot be removed is the image's own. */
	bool is_gone = unlinkat(cache->dir_fd, TEMPORARY, 0) == 0 || strcmp(name, TEMPORARY) == 0;
	if (record != NULL && is_gone)
		nvc_journal_mark(record, NVC_RECORD_UNDONE);
	return is_fixed && is_gone ? NVC_CACHE_FIXED : -1;
}

/* --- ldconfig -----------------------------------------------------------------------------------
 */

/* The directories to look through: those of the operation, and those of its libraries. */
static int list_directories(const struct nvc_plan *plan, const struct nvc_op *op, char *out,
                            size_t size, size_t *len, struct nvc_error *err)
{
	const char *at = nvc_plan_text(plan, op->data), *end = at + op->data_len;

	*len = 0;
	for (uint32_t i = 0; at < end; i++) {
		const char *directory = i < op->count ? at : nvc_plan_next(at);
		size_t dir_len =
		    i < op->count ? strlen(at) : (size_t)(strrchr(directory, '/') - directory);
		bool known = false;
		for (size_t told = 0; told < *len && !known; told += strlen(out + told) + 1)
			known = strlen(out + told) == dir_len &&
			        memcmp(out + told, directory, dir_len) == 0;
		if (!known && dir_len + 1 > size - *len)
			return nvc_fail(err, NVC_ELDCACHE, "check", NULL, "too many directories");
		if (!known) {
			memcpy(out + *len, directory, dir_len);
			out[*len + dir_len] = '\0';
			*len += dir_len + 1;
		}
		at = i < op->count ? nvc_plan_next(at)
		                   : nvc_plan_next(nvc_plan_next(nvc_plan_next(at)));
	}
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
		(void)fail(root, "run", NVC_CACHE_NAME, err);
		nvc_copy(err->msg, sizeof err->msg, words);
	}
	return -1;
}

int nvc_cache_run(const struct nvc_root *root, const struct nvc_cache *cache,
                  struct nvc_journal *journal, const struct nvc_plan *plan, const struct nvc_op *op,
                  int op_index, struct nvc_program program, struct nvc_error *err)
{
	char directories[2 * PATH_MAX];
	struct nvc_ldconfig job = {.program = program,
	                           .root_fd = root->fd,
	                           .uid = journal->file->uid,
	                           .gid = journal->file->gid,
	                           .directories = directories};
	struct stat st;

	if (list_directories(plan, op, directories, sizeof directories, &job.directories_len, err) <
	    0)
		return -1;
	journal->file->had_temporary =
	    fstatat(cache->dir_fd, UNFINISHED, &st, AT_SYMLINK_NOFOLLOW) == 0;
	struct nvc_record *record = begin(cache, journal, op_index, err);
	if (record == NULL)
		return -1;
	record->access = BY_LDCONFIG;
	if (run(root, &job, err) < 0)
		return -1;
	if (fstatat(cache->dir_fd, NVC_CACHE_NAME, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return fail(root, "stat", NVC_CACHE_NAME, err);
	record->made = identify(&st);
	nvc_journal_mark(record, NVC_RECORD_DONE);
	return 0;
}

/* --- putting back -------------------------------------------------------------------------------
 */

/* Write the saved file under a temporary name, and note what file that is. */
static int write_saved(const struct nvc_journal *journal, struct nvc_record *record, int dir_fd)
{
	const struct nvc_journal_file *file = journal->file;
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
	                            {file->cache_mtime_sec, file->cache_mtime_nsec}};
	struct stat st;
	nvc_autofd int fd = make_temporary(dir_fd, 0600);

	if (fd < 0 || nvc_write_all(fd, journal->cache, file->cache_len) < 0)
		return -1;
	/* The owner first: chown clears mode bits. */
	if (fchown(fd, file->cache_uid, file->cache_gid) < 0 || fchmod(fd, file->cache_mode) < 0 ||
	    futimens(fd, times) < 0 || fstat(fd, &st) < 0)
		return -1;
	record->was = identify(&st);
	return 0;
}

static int put_back(const struct nvc_root *root, const struct nvc_journal *journal,
                    struct nvc_record *record, int dir_fd, const char *name, struct nvc_error *err)
{
	if (journal->file->had_cache == 0)
		return remove_file(root, dir_fd, name, err);
	if (write_saved(journal, record, dir_fd) < 0 ||
	    renameat(dir_fd, TEMPORARY, dir_fd, name) < 0) {
		(void)fail(root, "restore", name, err);
		(void)unlinkat(dir_fd, TEMPORARY, 0);
		return -1;
	}
	return 0;
}

/* A replacement that somebody died over. */
static int restore_begun(const struct nvc_root *root, struct nvc_journal *journal,
                         struct nvc_record *record, int dir_fd, const char *name,
                         struct nvc_error *err)
{
	struct stat st;

	if (record->access == BY_LDCONFIG) {
		if (journal->file->had_temporary == 0 &&
		    remove_file(root, dir_fd, UNFINISHED, err) < 0)
			return -1;
		return put_back(root, journal, record, dir_fd, name, err);
	}
	if (remove_file(root, dir_fd, TEMPORARY, err) < 0)
		return -1;
	/* Before the rename there is nothing else. */
	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !is_file(&st, &record->made))
		return 0;
	return put_back(root, journal, record, dir_fd, name, err);
}

int nvc_cache_restore(const struct nvc_root *root, struct nvc_journal *journal,
                      struct nvc_record *record, struct nvc_error *err)
{
	const char *path = (const char *)record + offsetof(struct nvc_record, text);
	const char *name = strrchr(path, '/');
	struct nvc_cache cache;
	struct stat st;

	if (name == NULL)
		return nvc_fail(err, NVC_EMALFORMED, "parse", path, "not a path");
	name++;
	if (nvc_cache_open(root, name, &cache, err) < 0)
		return -1;
	nvc_autofd int dir_fd = cache.dir_fd;
	if (dir_fd < 0)
		return 0;
	if (record->state != NVC_RECORD_DONE)
		return restore_begun(root, journal, record, dir_fd, name, err);
	/* Somebody may have died after it was put back. */
	bool there = fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
	if (there ? is_file(&st, &record->was) : journal->file->had_cache == 0)
		return 0;
	if (there && is_file(&st, &record->made))
		return put_back(root, journal, record, dir_fd, name, err);
	/* The list of musl's loader stays as somebody made it: directories have no libraries of
	 * ours any more. */
	return strcmp(name, NVC_CACHE_NAME) == 0 ? NVC_CACHE_CHANGED : 0;
}
