/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_find.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "nvc_cleanup.h"

#define MAX_LINKS 40 /* the kernel's own limit */

int nvc_finder_open(struct nvc_finder *finder, const char *root, struct nvc_error *err)
{
	finder->last.fd = -1;
	finder->root =
	    (struct nvc_root){.fd = -1, .name = finder->name, .openat2 = true, .fds_fd = -1};
	nvc_copy(finder->name, sizeof finder->name, root[0] == '\0' ? "/" : root);
	finder->root.fd = open(finder->name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (finder->root.fd < 0)
		return nvc_fail_errno(err, NVC_EPATH, "open", finder->name);
	return 0;
}

void nvc_finder_close(struct nvc_finder *finder)
{
	nvc_close_fd(&finder->last.fd);
	nvc_close_fd(&finder->root.fd);
}

static void tell(struct nvc_found *out, const struct stat *st)
{
	const uint64_t second = 1000000000;

	out->mode = st->st_mode;
	out->rdev = st->st_rdev;
	out->dev = st->st_dev;
	out->ino = st->st_ino;
	out->size = (uint64_t)st->st_size;
	out->mtime = (uint64_t)st->st_mtim.tv_sec * second + (uint64_t)st->st_mtim.tv_nsec;
	out->ctime = (uint64_t)st->st_ctim.tv_sec * second + (uint64_t)st->st_ctim.tv_nsec;
}

/* Hold the directory `path`. False where it is none, or cannot be reached. */
static bool enter(struct nvc_finder *finder, const char *path)
{
	struct nvc_walk how = {.follow = true};
	struct nvc_error ignored;

	if (finder->last.fd >= 0 && strcmp(finder->asked, path) == 0)
		return true;
	nvc_close_fd(&finder->last.fd);
	if (nvc_path_walk(&finder->root, path, &how, &finder->last, &ignored) < 0)
		return false;
	if (finder->last.fd >= 0 && !S_ISDIR(finder->last.mode))
		nvc_close_fd(&finder->last.fd);
	nvc_copy(finder->asked, sizeof finder->asked, path);
	return finder->last.fd >= 0;
}

/* Write where the link `name` in the held directory leads to. */
static bool read_link(const struct nvc_finder *finder, const char *name, char *path, size_t size)
{
	char target[PATH_MAX];
	ssize_t len = readlinkat(finder->last.fd, name, target, sizeof target - 1);

	if (len <= 0)
		return false;
	target[len] = '\0';
	if (target[0] == '/') {
		nvc_copy(path, size, target);
		return true;
	}
	len = snprintf(path, size, "%s/%s", finder->last.path, target);
	return (size_t)len < size;
}

/* The common case: a name in a directory, perhaps a link to such a name. False where the careful
 * walk has to decide, or to say what is wrong; also if nothing is there, for the directory may have
 * been replaced since it was opened. */
static bool find_fast(struct nvc_finder *finder, const char *asked, struct nvc_found *out)
{
	char path[PATH_MAX], *slash;
	struct stat st;

	if (strlen(asked) >= sizeof path)
		return false;
	nvc_copy(path, sizeof path, asked);
	for (int links = 0; links <= MAX_LINKS; links++) {
		slash = strrchr(path, '/');
		if (slash == NULL || slash[1] == '\0' || strcmp(slash, "/.") == 0 ||
		    strcmp(slash, "/..") == 0)
			return false;
		*slash = '\0';
		if (!enter(finder, path))
			return false;
		if (fstatat(finder->last.fd, slash + 1, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return false;
		if (!S_ISLNK(st.st_mode)) {
			int len = snprintf(out->path, sizeof out->path, "%s/%s", finder->last.path,
			                   slash + 1);
			tell(out, &st);
			return (size_t)len < sizeof out->path;
		}
		nvc_copy(out->path, sizeof out->path, slash + 1);
		if (!read_link(finder, out->path, path, sizeof path))
			return false;
	}
	return false;
}

/* By the host's procfs, where a descriptor of a device is never opened. */
static int reopen(int path_fd)
{
	nvc_autofd int fds_fd = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct nvc_root own = {.fd = -1, .fds_fd = fds_fd};
	struct stat st;

	return fds_fd < 0 ? -1 : nvc_path_reopen(&own, path_fd, &st);
}

int nvc_find_open(struct nvc_finder *finder, const char *path, struct nvc_error *err)
{
	struct nvc_walk how = {.follow = true};
	struct nvc_place place;

	if (nvc_path_walk(&finder->root, path, &how, &place, err) < 0)
		return -1;
	nvc_autofd int path_fd = place.fd;
	errno = ENOENT;
	nvc_autofd int fd = path_fd < 0 ? -1 : reopen(path_fd);
	if (fd < 0)
		return nvc_fail_errno_at(err, NVC_EPATH, "open", finder->name, path);
	return nvc_steal_fd(&fd);
}

int nvc_find(struct nvc_finder *finder, const char *path, struct nvc_found *out,
             struct nvc_error *err)
{
	struct nvc_walk how = {.follow = true};
	struct nvc_place place;
	struct stat st;

	if (find_fast(finder, path, out))
		return 1;
	if (nvc_path_walk(&finder->root, path, &how, &place, err) < 0)
		return -1;
	nvc_autofd int fd = place.fd;
	if (fd < 0)
		return 0;
	if (fstat(fd, &st) < 0)
		return nvc_fail_errno_at(err, NVC_EPATH, "stat", finder->name, path);
	nvc_copy(out->path, sizeof out->path, place.len == 0 ? "/" : place.path);
	tell(out, &st);
	return 1;
}
