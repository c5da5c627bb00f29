/* SPDX-License-Identifier: Apache-2.0 */
/* Clone host files that lie in few directories: each directory is opened once. Privileges:
 * CAP_SYS_ADMIN. Fork class: child safe. */
#pragma once

#include <stddef.h>

/* A driver's files are in one directory after the other; nodes and procfs entries alternate. */
#define NVC_SOURCES 2

/* The directories of the last files; `path` is that of a file, of which the first `len` bytes name
 * the directory. It must outlive this. */
struct nvc_sources {
	struct {
		int fd;
		const char *path;
		size_t len;
	} recent[NVC_SOURCES];
};

#define nvc_sources_init                                                                           \
	{                                                                                          \
		.recent = {{.fd = -1}, {.fd = -1}}                                                 \
	}

/* Return a detached mount of a file with an absolute path, of which no part is a link; a link
 * itself is cloned as what it is. -1 with errno. */
int nvc_sources_clone(struct nvc_sources *sources, const char *path);

void nvc_sources_close(struct nvc_sources *sources);
