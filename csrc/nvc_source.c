/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_source.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

#include "nvc_classic.h"
#include "nvc_cleanup.h"
#include "nvc_syscalls.h"

static int find(const struct nvc_sources *sources, const char *path, size_t len)
{
	for (size_t i = 0; i < NVC_SOURCES; i++) {
		if (sources->recent[i].fd >= 0 && sources->recent[i].len == len &&
		    memcmp(sources->recent[i].path, path, len) == 0)
			return sources->recent[i].fd;
	}
	return -1;
}

/* Open a directory instead of the one that was opened longest ago. */
static int open_directory(struct nvc_sources *sources, const char *path, size_t len)
{
	char directory[PATH_MAX];
	size_t last = NVC_SOURCES - 1;
	int fd;

	if (len + 2 > sizeof directory) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(directory, path, len);
	memcpy(directory + len, "/", 2);
	fd = nvc_classic_open_source(directory);
	if (fd < 0)
		return -1;
	nvc_close_fd(&sources->recent[last].fd);
	memmove(sources->recent + 1, sources->recent, last * sizeof *sources->recent);
	sources->recent[0].fd = fd;
	sources->recent[0].path = path;
	sources->recent[0].len = len;
	return fd;
}

int nvc_sources_clone(struct nvc_sources *sources, const char *path)
{
	const char *name = strrchr(path, '/');
	size_t len = name == NULL ? 0 : (size_t)(name - path);
	int dir_fd;

	if (name == NULL || *++name == '\0') {
		errno = EINVAL;
		return -1;
	}
	dir_fd = find(sources, path, len);
	if (dir_fd < 0)
		dir_fd = open_directory(sources, path, len);
	return dir_fd < 0 ? -1
	                  : nvc_open_tree(dir_fd, name,
	                                  NVC_OPEN_TREE_CLONE | NVC_OPEN_TREE_CLOEXEC |
	                                      AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT);
}

void nvc_sources_close(struct nvc_sources *sources)
{
	for (size_t i = 0; i < NVC_SOURCES; i++)
		nvc_close_fd(&sources->recent[i].fd);
}
