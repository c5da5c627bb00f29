/* SPDX-License-Identifier: Apache-2.0 */
/* The one child that does a job, and waiting for it under a deadline. It is cloned without an exit
 * signal, so that a program that reaps all children, or ignores SIGCHLD, is not disturbed.
 * Privileges: none. Fork class: parent only. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "nvc_error.h"

struct nvc_worker {
	pid_t pid;
	int alive_fd; /* the other end closes when the worker is gone, whatever became of it */
	long deadline_ms;
};

#define nvc_worker_init {.pid = -1, .alive_fd = -1}

enum nvc_wait {
	NVC_WAIT_DONE,        /* exited with 0 */
	NVC_WAIT_FAILED,      /* exited with 1 */
	NVC_WAIT_KILLED,      /* died otherwise */
	NVC_WAIT_TIMEOUT,     /* was killed at its deadline */
	NVC_WAIT_STUCK,       /* hangs in the kernel and cannot be killed */
	NVC_WAIT_INTERRUPTED, /* a signal handler ran in the caller: wait again */
};

/* Clone a child that runs body(cookie) and exits with 0, or 1 if that returns -1. In it no signal
 * handler of the caller runs and no umask of the caller counts. It outlives its parent, but not
 * twice its time. */
int nvc_worker_start(int (*body)(void *cookie), void *cookie, int timeout_ms,
                     struct nvc_worker *out, struct nvc_error *err);

/* Bring the deadline forward, to so far from now at most. */
void nvc_worker_hurry(struct nvc_worker *worker, int timeout_ms);

/* Wait for the end and reap. NVC_WAIT_INTERRUPTED only if `interruptible`. */
enum nvc_wait nvc_worker_wait(struct nvc_worker *worker, bool interruptible);
