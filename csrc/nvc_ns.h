/* SPDX-License-Identifier: Apache-2.0 */
/* A container, seen through one of its processes: everything is opened from one descriptor of its
 * /proc directory, so that a reused pid cannot mix two processes. That process may be ourselves:
 * then the container's namespaces are those we are in ("standalone"). Privileges: ptrace access to
 * the process; entering needs CAP_SYS_ADMIN and CAP_SYS_CHROOT, ours or, for whoever owns the
 * container's user namespace, in there. Fork class: open is parent only, the rest is for the forked
 * child. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "nvc_error.h"

struct nvc_container {
	int proc_fd; /* O_PATH of the process's /proc directory */
	int mnt_fd;  /* its mount namespace */
	int root_fd; /* O_PATH of its root directory */
	int user_fd; /* its user namespace, where only being in it makes us privileged; or -1 */
	bool is_own; /* the container is where we are */
	uid_t uid;   /* who root is in its user namespace, for who enters */
	gid_t gid;
	uint64_t start_time; /* of the process, clock ticks since boot */
};

#define nvc_container_init {.proc_fd = -1, .mnt_fd = -1, .root_fd = -1, .user_fd = -1}

/* Open the container of a process; 0: the one that we are in ourselves. Fails with
 * NVC_ENAMESPACE; also where another process shares our own mount namespace, since that is the host
 * and not a container. */
int nvc_ns_open(int pid, struct nvc_container *out, struct nvc_error *err);

void nvc_ns_close(struct nvc_container *container);

/* Move the calling (forked, single-threaded) process into the mount namespace. What it makes from
 * here on belongs to the container's root; its capabilities stay. */
int nvc_ns_enter(const struct nvc_container *container, struct nvc_error *err);

/* Fail with NVC_ENAMESPACE where the mount that a directory of our own namespace is in is one that
 * the host's first process sees, or where that cannot be told: what is mounted below it would be
 * the host's. In a user namespace the kernel sees to it already. `fds_fd`: our own /proc/self/fd.
 */
int nvc_ns_refuse_host(int dir_fd, int fds_fd, struct nvc_error *err);
