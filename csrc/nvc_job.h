/* SPDX-License-Identifier: Apache-2.0 */
/* A job, and what the workers do for it: apply a plan, undo a journal. Everything here is opened
 * and prepared by nvc_apply.c before the fork. Privileges: see nvc_apply.h. Fork class: the
 * functions are bodies of workers. */
#pragma once

#include <sys/stat.h>

#include "nvc_apply.h"
#include "nvc_cgroup.h"
#include "nvc_kernel.h"
#include "nvc_ns.h"
#include "nvc_worker.h"

/* What the children tell, and are told, in memory shared with them. */
struct nvc_outcome {
	struct nvc_error err;  /* of the failing operation */
	struct nvc_error left; /* of the undo */
	uint32_t current;      /* operation at work, or NVC_OPS_NONE */
	uint32_t undone;       /* an undo ran to its end */
	uint32_t stop;         /* the worker shall stop and undo */
	char warnings[NVC_OPS_WARNINGS_MAX];
};

struct nvc_job {
	struct nvc_plan plan;
	struct nvc_kernel kernel;
	struct nvc_container container;
	struct nvc_journal journal;
	struct nvc_journal_file_at file;
	struct nvc_cgroup cgroup;
	struct nvc_groups groups;
	struct nvc_loose_mount *loose;
	struct nvc_outcome *outcome;
	struct nvc_worker worker;
	int program_fd;
	int timeout_ms;
	pid_t parent;
	struct stat host_root;
};

/* Apply the plan, all or nothing. `cookie` is the job. 0, or -1 with the outcome's `err` set. */
int nvc_job_apply(void *cookie);

/* Undo what the journal holds. 0, or -1 with the outcome's `left` set. */
int nvc_job_undo(void *cookie);
