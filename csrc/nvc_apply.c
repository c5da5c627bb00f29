/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_apply.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#include "nvc_cleanup.h"
#include "nvc_job.h"
#include "nvc_ldconfig.h"

#define STOP_MS 2000 /* how long a worker that shall stop may take, before it is killed */

/* Put an end that was not a success into words; `said` is what the child left. */
static int explain(enum nvc_wait end, const struct nvc_error *said, struct nvc_error *err)
{
	switch (end) {
	case NVC_WAIT_FAILED:
		if (said->code == NVC_OK)
			break;
		*err = *said;
		return -1;
	case NVC_WAIT_TIMEOUT:
		return nvc_fail(err, NVC_ETIMEOUT, "apply", NULL,
		                "the worker did not finish before its deadline");
	case NVC_WAIT_STUCK:
		return nvc_fail(err, NVC_ETIMEOUT, "apply", NULL,
		                "the worker hangs in a system call and cannot be killed");
	case NVC_WAIT_DONE:
	case NVC_WAIT_KILLED:
	case NVC_WAIT_INTERRUPTED:
	default:
		break;
	}
	return nvc_fail(err, NVC_ECRASH, "apply", NULL, "the worker was killed");
}

/* Have a child undo what the journal holds. */
static int run_undo(struct nvc_job *job, struct nvc_error *err)
{
	enum nvc_wait end;

	if (nvc_worker_start(nvc_job_undo, job, job->timeout_ms, &job->worker, err) < 0)
		return -1;
	end = nvc_worker_wait(&job->worker, false);
	return end == NVC_WAIT_DONE ? 0 : explain(end, &job->outcome->left, err);
}

static void *map_shared(size_t size, struct nvc_error *err)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory != MAP_FAILED)
		return memory;
	(void)nvc_fail_errno(err, NVC_EINTERNAL, "map", "shared memory");
	return NULL;
}

static struct nvc_job *new_job(int timeout_ms, struct nvc_error *err)
{
	struct nvc_job *job = malloc(sizeof *job);

	if (job == NULL) {
		(void)nvc_fail_errno(err, NVC_EINTERNAL, "allocate", "job");
		return NULL;
	}
	*job = (struct nvc_job){.container = nvc_container_init,
	                        .cgroup = nvc_cgroup_init,
	                        .groups = nvc_groups_init,
	                        .worker = nvc_worker_init,
	                        .program_fd = -1,
	                        .timeout_ms = timeout_ms,
	                        .parent = getpid()};
	nvc_kernel_probe(&job->kernel);
	job->outcome = map_shared(sizeof *job->outcome, err);
	if (job->outcome == NULL || stat("/", &job->host_root) < 0)
		nvc_job_free(nvc_steal_ptr(&job));
	return job;
}

void nvc_job_free(struct nvc_job *job)
{
	if (job == NULL)
		return;
	if (job->outcome != NULL)
		(void)munmap(job->outcome, sizeof *job->outcome);
	if (job->journal.base != NULL)
		nvc_journal_close(&job->journal);
	nvc_free_ptr(&job->loose);
	nvc_close_fd(&job->worker.alive_fd);
	nvc_close_fd(&job->program_fd);
	nvc_cgroup_close(&job->cgroup);
	nvc_groups_close(&job->groups);
	nvc_ns_close(&job->container);
	nvc_free_ptr(&job);
}

static void free_job(struct nvc_job **job)
{
	nvc_job_free(*job);
}

#define autojob __attribute__((cleanup(free_job))) struct nvc_job

/* What both directions need. */
static int open_container(struct nvc_job *job, int pid, struct nvc_error *err)
{
	if (nvc_ns_open(pid, &job->container, err) < 0)
		return -1;
	/* Who may mount in the container only takes the sources there, by their names. */
	if (job->container.user_fd >= 0)
		job->kernel.open_tree = false;
	return nvc_groups_open(&job->groups, err);
}

static int open_tools(struct nvc_job *job, bool cgroup, const char *ldconfig, struct nvc_error *err)
{
	if (cgroup && nvc_cgroup_open(job->container.proc_fd, &job->cgroup, err) < 0)
		return -1;
	if (ldconfig == NULL)
		return 0;
	job->program_fd = nvc_ldconfig_load(ldconfig, err);
	return job->program_fd < 0 ? -1 : 0;
}

static int make_journal(struct nvc_job *job, const struct nvc_target *target, struct nvc_error *err)
{
	struct nvc_journal_file *file;

	if (nvc_journal_create(job->file.fd, &job->journal, err) < 0)
		return -1;
	file = job->journal.file;
	file->pid = target->pid;
	file->start_time = job->container.start_time;
	file->uid = job->container.uid;
	file->gid = job->container.gid;
	nvc_copy(file->rootfs, sizeof file->rootfs, target->rootfs);
	return 0;
}

static int prepare_apply(struct nvc_job *job, const struct nvc_target *target,
                         struct nvc_error *err)
{
	bool cache = nvc_plan_has(&job->plan, NVC_OP_LOADER_CACHE);
	bool cgroup = nvc_plan_has(&job->plan, NVC_OP_DEVICE_ACCESS);

	if (strlen(target->rootfs) >= PATH_MAX ||
	    (target->rootfs[0] != '\0' && target->rootfs[0] != '/'))
		return nvc_fail(err, NVC_EINVAL, "check", target->rootfs,
		                "the rootfs is not an absolute path");
	/* We need not be in the container's cgroup: ours may be that of a session of the host. */
	if (cgroup && target->pid == 0)
		return nvc_fail(err, NVC_ECGROUP, "check", NULL,
		                "without a process of the container its cgroup is not known: use "
		                "--no-cgroups, or name a process by --pid");
	if (open_container(job, target->pid, err) < 0 ||
	    open_tools(job, cgroup, cache ? target->ldconfig : NULL, err) < 0)
		return -1;
	job->loose = calloc(job->plan.count + 1, sizeof *job->loose);
	if (job->loose == NULL)
		return nvc_fail_errno(err, NVC_EINTERNAL, "allocate", "mounts");
	return make_journal(job, target, err);
}

struct nvc_job *nvc_apply_start(const uint8_t *buf, size_t len, const struct nvc_target *target,
                                const struct nvc_journal_file_at *journal, struct nvc_error *err)
{
	autojob *job = new_job(target->timeout_ms, err);

	if (job == NULL)
		return NULL;
	job->file = *journal;
	if (nvc_plan_open(buf, len, &job->plan, err) < 0 || prepare_apply(job, target, err) < 0 ||
	    nvc_worker_start(nvc_job_apply, job, job->timeout_ms, &job->worker, err) < 0)
		return NULL;
	return nvc_steal_ptr(&job);
}

/* See to it that nothing is left, and say so if something is. */
static void clean_up(struct nvc_job *job, struct nvc_report *report)
{
	struct nvc_outcome *outcome = job->outcome;
	struct nvc_error left;

	if (outcome->undone == 0 && job->journal.file->log_len > 0) {
		if (run_undo(job, &left) < 0)
			outcome->left = left;
		outcome->undone = 1;
	}
	report->left = outcome->left;
}

int nvc_apply_wait(struct nvc_job *job, struct nvc_report *report, struct nvc_error *err)
{
	struct nvc_outcome *outcome = job->outcome;
	enum nvc_wait end = nvc_worker_wait(&job->worker, true);

	memset(report, 0, sizeof *report);
	if (end == NVC_WAIT_INTERRUPTED)
		return NVC_INTERRUPTED;
	if (end != NVC_WAIT_DONE) {
		(void)explain(end, &outcome->err, err);
		if (end != NVC_WAIT_FAILED)
			err->op_index = (int)outcome->current;
		clean_up(job, report);
	}
	memcpy(report->warnings, outcome->warnings, sizeof report->warnings);
	report->warnings[sizeof report->warnings - 1] = '\0';
	return end == NVC_WAIT_DONE ? 0 : -1;
}

int nvc_apply_cancel(struct nvc_job *job, struct nvc_report *report)
{
	memset(report, 0, sizeof *report);
	__atomic_store_n(&job->outcome->stop, 1, __ATOMIC_RELEASE);
	if (job->worker.pid > 0) {
		nvc_worker_hurry(&job->worker, STOP_MS);
		(void)nvc_worker_wait(&job->worker, false);
	}
	clean_up(job, report);
	return report->left.code == NVC_OK ? 0 : -1;
}

/* Whether the log has steps that need what only some containers have. */
static bool logged(const struct nvc_journal *journal, enum nvc_step step)
{
	for (const struct nvc_record *record = NULL;
	     (record = nvc_journal_before(journal, record)) != NULL;) {
		if (record->step == (uint32_t)step && record->state != NVC_RECORD_UNDONE)
			return true;
	}
	return false;
}

static int prepare_detach(struct nvc_job *job, struct nvc_error *err)
{
	const struct nvc_journal *journal = &job->journal;
	bool cgroup;

	if (nvc_journal_open(job->file.fd, &job->journal, err) < 0 ||
	    open_container(job, journal->file->pid, err) < 0)
		return -1;
	if (job->container.start_time != journal->file->start_time)
		return nvc_fail(err, NVC_ENAMESPACE, "check", NULL,
		                "the container's process is gone: its pid names another one now");
	cgroup = logged(journal, NVC_STEP_DEVLIST) || logged(journal, NVC_STEP_DEVPROG);
	return cgroup ? nvc_cgroup_open(job->container.proc_fd, &job->cgroup, err) : 0;
}

int nvc_detach(const struct nvc_journal_file_at *journal, int timeout_ms, struct nvc_report *report,
               struct nvc_error *err)
{
	autojob *job = new_job(timeout_ms, err);

	memset(report, 0, sizeof *report);
	if (job == NULL)
		return -1;
	job->file = *journal;
	if (prepare_detach(job, err) < 0)
		return -1;
	if (run_undo(job, err) < 0) {
		report->left = *err; /* also what a killed worker could not tell */
		return -1;
	}
	return 0;
}

int nvc_container_start_time(int pid, uint64_t *out, struct nvc_error *err)
{
	struct nvc_container container = nvc_container_init;

	if (nvc_ns_open(pid, &container, err) < 0)
		return -1;
	*out = container.start_time;
	nvc_ns_close(&container);
	return 0;
}
