/* SPDX-License-Identifier: Apache-2.0 */
/* A container, seen through one of its processes: everything is opened from one descriptor of its
 * /proc directory, so that a reused pid cannot mix two processes. Privileges: ptrace access to the
 * process; entering needs CAP_SYS_ADMIN and CAP_SYS_CHROOT. Fork class: open is parent only, enter
 * is for the forked child alone. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "nvc_error.h"

struct nvc_container {
	int proc_fd; /* O_PATH of the process's /proc directory */
	int mnt_fd;  /* its mount namespace */
	int root_fd; /* O_PATH of its root directory */
	uid_t uid;   /* who root is in its user namespace, for us */
	gid_t gid;
	uint64_t start_time; /* of the process, clock ticks since boot */
};

#define nvc_container_init {.proc_fd = -1, .mnt_fd = -1, .root_fd = -1}

/* Open a container. Fails with NVC_ENAMESPACE; also where the process shares our own mount
 * namespace, since that is the host and not a container. */
int nvc_ns_open(int pid, struct nvc_container *out, struct nvc_error *err);

void nvc_ns_close(struct nvc_container *container);

/* Move the calling (forked, single-threaded) process into the mount namespace. What it makes from
 * here on belongs to the container's root; its capabilities stay. */
int nvc_ns_enter(const struct nvc_container *container, struct nvc_error *err);
