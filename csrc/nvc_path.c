/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_path.h"

#include <errno.h>
#include <string.h>

#include "nvc_cleanup.h"
#include "nvc_syscalls.h"
#include "nvc_text.h"

#define MAX_LINKS 40 /* the kernel's own limit */

/* The state of one walk: where we are, and what is still to be read. */
struct walker {
	const struct nvc_root *root;
	const struct nvc_walk *how;
	struct nvc_place *at;
	const char *asked;
	int links;
	size_t todo; /* offset of the unread text */
	char text[2 * PATH_MAX];
};

static int fail_errno(const struct walker *w, const char *step, struct nvc_error *err)
{
	return nvc_fail_errno_at(err, NVC_EPATH, step, w->root->name, w->asked);
}

static int fail_too_long(const struct walker *w, struct nvc_error *err)
{
	errno = ENAMETOOLONG;
	return fail_errno(w, "open", err);
}

static int fail_outside(const struct walker *w, struct nvc_error *err)
{
	(void)nvc_fail(err, NVC_EPATH, "resolve", w->asked, "resolves outside of ");
	size_t used = strlen(err->msg);
	nvc_copy(err->msg + used, sizeof err->msg - used, w->root->name);
	return -1;
}

static void arrive(struct nvc_place *at, int fd, mode_t mode)
{
	nvc_close_fd(&at->fd);
	at->fd = fd;
	at->mode = mode;
}

static int go_root(struct walker *w, struct nvc_error *err)
{
	int fd = openat(w->root->fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return fail_errno(w, "open", err);
	arrive(w->at, fd, S_IFDIR);
	w->at->len = 0;
	w->at->path[0] = '\0';
	return 0;
}

static int append(struct walker *w, const char *name, size_t len, struct nvc_error *err)
{
	struct nvc_place *at = w->at;

	if (at->len + 1 + len >= sizeof at->path)
		return fail_too_long(w, err);
	at->path[at->len] = '/';
	memcpy(at->path + at->len + 1, name, len);
	at->len += 1 + len;
	at->path[at->len] = '\0';
	return 0;
}

/* Open one component below a held directory; never follows, never leaves. */
static int step_into(struct walker *w, int dir_fd, const char *name, struct nvc_error *err)
{
	struct stat st;
	nvc_autofd int fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOENT ? 1 : fail_errno(w, "open", err);
	if (fstat(fd, &st) < 0)
		return fail_errno(w, "stat", err);
	arrive(w->at, nvc_steal_fd(&fd), st.st_mode);
	return 0;
}

/* "..": drop the last component and come down again from the root, so that a directory that was
 * moved away meanwhile cannot carry us out. */
static int go_up(struct walker *w, struct nvc_error *err)
{
	char path[PATH_MAX];
	char *slash, *rest = path;

	if (w->at->len == 0)
		return fail_outside(w, err);
	memcpy(path, w->at->path, w->at->len + 1);
	slash = strrchr(path, '/');
	*slash = '\0';
	if (go_root(w, err) < 0)
		return -1;
	while (*rest != '\0') {
		char *name = rest + 1;
		rest = name + strcspn(name, "/");
		char end = *rest;
		*rest = '\0';
		int missing = step_into(w, w->at->fd, name, err);
		if (missing < 0)
			return -1;
		if (missing > 0 || !S_ISDIR(w->at->mode)) {
			errno = ENOENT;
			return fail_errno(w, "open", err);
		}
		if (append(w, name, (size_t)(rest - name), err) < 0)
			return -1;
		*rest = end;
	}
	return 0;
}

/* Put the text of the link we stand on in front of what is still to be read. */
static int splice_link(struct walker *w, size_t parent_len, int parent_fd, struct nvc_error *err)
{
	char target[PATH_MAX];
	size_t rest_len = strlen(w->text + w->todo);
	ssize_t len = readlinkat(w->at->fd, "", target, sizeof target - 1);

	if (len < 0)
		return fail_errno(w, "readlink", err);
	if (++w->links > MAX_LINKS || len == 0) {
		errno = len == 0 ? ENOENT : ELOOP;
		return fail_errno(w, "open", err);
	}
	if ((size_t)len + 1 + rest_len >= sizeof w->text)
		return fail_too_long(w, err);
	memmove(w->text + len + 1, w->text + w->todo, rest_len + 1);
	memcpy(w->text, target, (size_t)len);
	w->text[len] = '/';
	w->todo = 0;
	if (target[0] == '/')
		return go_root(w, err);
	w->at->len = parent_len;
	w->at->path[parent_len] = '\0';
	int fd = fcntl(parent_fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return fail_errno(w, "dup", err);
	arrive(w->at, fd, S_IFDIR);
	return 0;
}

static bool at_end(const struct walker *w)
{
	return w->text[w->todo + strspn(w->text + w->todo, "/")] == '\0';
}

/* Take one ordinary component. Returns 1 if it is missing and may stay so. */
static int take(struct walker *w, const char *name, size_t len, struct nvc_error *err)
{
	size_t parent_len = w->at->len;
	nvc_autofd int parent_fd = nvc_steal_fd(&w->at->fd);
	int missing;

	w->at->fd = -1;
	missing = step_into(w, parent_fd, name, err);
	if (missing < 0 || append(w, name, len, err) < 0)
		return -1;
	if (missing > 0) {
		if (w->how->mkdir == NULL)
			return 1;
		if (w->how->mkdir(w->how->cookie, parent_fd, name, w->at->path, err) < 0)
			return -1;
		missing = step_into(w, parent_fd, name, err);
		if (missing != 0) {
			errno = ENOENT;
			return missing < 0 ? -1 : fail_errno(w, "open", err);
		}
	}
	if (S_ISLNK(w->at->mode) && (w->how->follow || w->how->mkdir != NULL || !at_end(w)))
		return splice_link(w, parent_len, parent_fd, err);
	return 0;
}

/* What is left after a missing component can only be spelled out; ".." would have to be
 * guessed. */
static int append_rest(struct walker *w, struct nvc_error *err)
{
	for (;;) {
		char *name = w->text + w->todo + strspn(w->text + w->todo, "/");
		size_t len = strcspn(name, "/");

		if (len == 0)
			return 0;
		if (len == 2 && name[0] == '.' && name[1] == '.') {
			errno = ENOENT;
			return fail_errno(w, "open", err);
		}
		if (!(len == 1 && name[0] == '.') && append(w, name, len, err) < 0)
			return -1;
		w->todo = (size_t)(name - w->text) + len;
	}
}

static int walk(struct walker *w, struct nvc_error *err)
{
	char name[NAME_MAX + 1];

	if (go_root(w, err) < 0)
		return -1;
	for (;;) {
		const char *next = w->text + w->todo + strspn(w->text + w->todo, "/");
		size_t len = strcspn(next, "/");
		int missing;

		if (len == 0)
			return 0;
		if (len > NAME_MAX)
			return fail_too_long(w, err);
		memcpy(name, next, len);
		name[len] = '\0';
		w->todo = (size_t)(next - w->text) + len;
		if (!S_ISDIR(w->at->mode)) {
			errno = ENOTDIR;
			return fail_errno(w, "open", err);
		}
		if (strcmp(name, ".") == 0)
			continue;
		missing = strcmp(name, "..") == 0 ? go_up(w, err) : take(w, name, len, err);
		if (missing < 0)
			return -1;
		if (missing > 0)
			return append_rest(w, err);
	}
}

/* The common cases in one call: a path without links, or to something missing. False where the
 * careful walk has to decide. */
static bool walk_fast(struct walker *w)
{
	struct nvc_open_how how = {.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
	                           .resolve = NVC_RESOLVE_BENEATH | NVC_RESOLVE_NO_SYMLINK};
	size_t len = strlen(w->asked);
	struct stat st;

	/* The text is the result, so it has to be in its simplest form. */
	if (!w->root->openat2 || w->asked[0] != '/' || len < 2 || len >= sizeof w->at->path ||
	    w->asked[len - 1] == '/' || strstr(w->asked, "//") || strstr(w->asked, "/."))
		return false;
	nvc_autofd int fd = nvc_openat2(w->root->fd, w->asked + 1, how);
	/* A link on the way would have been told first: so it is missing, and where it was asked.
	 */
	bool is_missing = fd < 0 && errno == ENOENT && w->how->mkdir == NULL;
	if (!is_missing && (fd < 0 || fstat(fd, &st) < 0 || S_ISLNK(st.st_mode)))
		return false;
	memcpy(w->at->path, w->asked, len + 1);
	w->at->len = len;
	if (!is_missing)
		arrive(w->at, nvc_steal_fd(&fd), st.st_mode);
	return true;
}

int nvc_path_walk(const struct nvc_root *root, const char *path, const struct nvc_walk *how,
                  struct nvc_place *out, struct nvc_error *err)
{
	struct walker w = {.root = root, .how = how, .at = out, .asked = path};
	size_t len = strlen(path);

	out->fd = -1;
	out->len = 0;
	out->path[0] = '\0';
	if (walk_fast(&w))
		return 0;
	if (len >= PATH_MAX)
		return fail_too_long(&w, err);
	memcpy(w.text, path, len + 1);
	if (walk(&w, err) < 0) {
		nvc_close_fd(&out->fd);
		return -1;
	}
	return 0;
}

int nvc_path_open(const struct nvc_root *root, const char *path, struct stat *st)
{
	struct nvc_open_how how = {.flags = O_PATH | O_CLOEXEC,
	                           .resolve = NVC_RESOLVE_IN_ROOT | NVC_RESOLVE_NO_MAGIC};
	struct nvc_walk walk = {.follow = true};
	struct nvc_place place;
	struct nvc_error err;
	nvc_autofd int fd = root->openat2 ? nvc_openat2(root->fd, path, how) : -ENOSYS;

	if (fd < 0 && root->openat2 && errno != ENOSYS && errno != EAGAIN)
		return -1;
	if (fd < 0) {
		if (nvc_path_walk(root, path, &walk, &place, &err) < 0) {
			errno = err.sys_errno != 0 ? err.sys_errno : ENOENT;
			return -1;
		}
		fd = place.fd;
		errno = ENOENT;
	}
	return fd < 0 || fstat(fd, st) < 0 ? -1 : nvc_steal_fd(&fd);
}

int nvc_path_reopen(const struct nvc_root *root, int path_fd, struct stat *st)
{
	char name[16];

	if (fstat(path_fd, st) < 0)
		return -1;
	if (!S_ISREG(st->st_mode)) {
		errno = EINVAL;
		return -1;
	}
	return openat(root->fds_fd, nvc_digits(name + sizeof name, (unsigned)path_fd, 10),
	              O_RDONLY | O_CLOEXEC | O_NONBLOCK);
}
