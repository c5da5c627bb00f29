/* SPDX-License-Identifier: Apache-2.0 */
/* Apply a plan to a container, all or nothing, and take it back.
 *
 * The work happens in one child (nvc_worker.h): a thread of a multi-threaded program cannot enter a
 * mount namespace, and nothing of the caller changes (working directory, umask, namespaces,
 * signals, capabilities). Everything that allocates or parses is done before the fork; the child
 * makes raw system calls only, under a deadline. It shares the journal (what to undo) and a record
 * of its outcome with the parent. If it fails, is told to stop, or finds its parent gone, it undoes
 * everything itself; if it dies, the parent has a second child do so; if both die, the journal on
 * disk is left for nvc_detach.
 *
 * Privileges: CAP_SYS_ADMIN, CAP_SYS_CHROOT and ptrace access to the process, CAP_DAC_OVERRIDE for
 * what the container owns; CAP_MKNOD for device nodes that the host lacks. Those of the container's
 * user namespace do, for its owner, as long as the container still shows the host's tree. Fork
 * class: parent only. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "nvc_error.h"
#include "nvc_ops.h"

/* Where a journal is, so that a worker that is left alone can remove it. */
struct nvc_journal_file_at {
	int fd;           /* the file: empty to apply, or what nvc_apply_start made of it */
	int dir_fd;       /* its directory; -1 for a memory file */
	const char *name; /* in the directory; "" for a memory file */
};

struct nvc_target {
	int pid;              /* a process of the container; 0: it is where the caller is */
	const char *rootfs;   /* absolute, in its mount namespace; "" for its own root */
	const char *ldconfig; /* on the host, to be run; "" for the host's default; NULL: none */
	int timeout_ms;
};

struct nvc_report {
	struct nvc_error left; /* code NVC_OK, or the first thing that could not be undone */
	char warnings[NVC_OPS_WARNINGS_MAX]; /* lines */
};

struct nvc_job;

/* Begin to apply a flat plan. `buf` must outlive the job. NULL if nothing was begun. */
struct nvc_job *nvc_apply_start(const uint8_t *buf, size_t len, const struct nvc_target *target,
                                const struct nvc_journal_file_at *journal, struct nvc_error *err);

#define NVC_INTERRUPTED 1

/* Wait for the end. 0: done. -1: failed, and everything was undone unless report->left says
 * otherwise. NVC_INTERRUPTED: a signal handler of the caller ran; decide, then call this again or
 * nvc_apply_cancel. */
int nvc_apply_wait(struct nvc_job *job, struct nvc_report *report, struct nvc_error *err);

/* Stop a job, also one that is done already or hangs, and undo it. -1 if something is left. */
int nvc_apply_cancel(struct nvc_job *job, struct nvc_report *report);

void nvc_job_free(struct nvc_job *job);

/* Undo what a journal holds, newest first. What somebody changed since stays. */
int nvc_detach(const struct nvc_journal_file_at *journal, int timeout_ms, struct nvc_report *report,
               struct nvc_error *err);

/* Start time of a process, in clock ticks since boot: with the pid it names the process. */
int nvc_container_start_time(int pid, uint64_t *out, struct nvc_error *err);
