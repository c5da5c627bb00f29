/* SPDX-License-Identifier: Apache-2.0 */
/* Run the host's ldconfig on a container's root, locked in: a sealed copy of the program (so that
 * nothing in the container can reach the host's file), own mount, pid and ipc namespaces, the
 * container's root as the only tree, no capabilities, resource limits, a system call filter, an
 * empty environment. Nothing of the image is executed. Privileges: CAP_SYS_ADMIN. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "nvc_error.h"

/* Copy the program to a sealed memory file; returns its fd. `path` is on the host; "" takes
 * /sbin/ldconfig.real (Debian's wrapper hides it there) or /sbin/ldconfig. Fork class: parent. */
int nvc_ldconfig_load(const char *path, struct nvc_error *err);

/* What is run, and for how long: the image can make it read a pipe that nobody writes to. */
struct nvc_program {
	int fd; /* -1: none */
	int timeout_ms;
};

struct nvc_ldconfig {
	struct nvc_program program;
	int root_fd; /* of the container, in the mount namespace we are in */
	uid_t uid;   /* whom to run as */
	gid_t gid;
	const char *directories; /* each ended by NUL; searched before those of ld.so.conf */
	size_t directories_len;
};

/* Rewrite /etc/ld.so.cache. `err` must lie in memory shared with the children that this makes.
 * Changes the working directory. Fork class: child safe (it is called in the worker). */
int nvc_ldconfig_run(const struct nvc_ldconfig *job, struct nvc_error *err);
