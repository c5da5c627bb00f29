/* SPDX-License-Identifier: Apache-2.0 */
/* Apply a plan to a container, all or nothing, and take it back.
 *
 * The work happens in one forked child: a thread of a multi-threaded program cannot enter a mount
 * namespace, and nothing of the caller changes (working directory, umask, namespaces, signals,
 * capabilities). Everything that allocates or parses is done before the fork; the child makes raw
 * system calls only, under a deadline. It shares the journal (what to undo) and a record of its
 * outcome with the parent; if it fails it undoes everything itself, and if it dies the parent has
 * a second child do so.
 *
 * Privileges: CAP_SYS_ADMIN, CAP_SYS_CHROOT and ptrace access to the process, CAP_DAC_OVERRIDE for
 * what the container owns; CAP_MKNOD for device nodes that the host lacks. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "nvc_error.h"
#include "nvc_ops.h"

struct nvc_target {
	int pid;              /* a process of the container */
	const char *rootfs;   /* absolute, in its mount namespace; "" for its own root */
	const char *ldconfig; /* on the host; "" for the host's default */
	int timeout_ms;
};

struct nvc_report {
	struct nvc_error left; /* code NVC_OK, or the first thing that could not be undone */
	uint32_t undone;       /* whether an undo ran */
	char warnings[NVC_OPS_WARNINGS_MAX]; /* lines */
};

/* Apply a flat plan. `journal_fd` is an empty file that becomes the journal, or -1 for none that
 * outlives the call. On failure everything was undone, unless report->left says otherwise. */
int nvc_apply(const uint8_t *buf, size_t len, const struct nvc_target *target, int journal_fd,
              struct nvc_report *report, struct nvc_error *err);

/* Undo what a journal holds, newest first. What somebody changed since stays. */
int nvc_detach(int journal_fd, const char *ldconfig, int timeout_ms, struct nvc_report *report,
               struct nvc_error *err);

/* Start time of a process, in clock ticks since boot: with the pid it names the process. */
int nvc_container_start_time(int pid, uint64_t *out, struct nvc_error *err);
