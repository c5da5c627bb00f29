/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_apply.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "nvc_cgroup.h"
#include "nvc_cleanup.h"
#include "nvc_kernel.h"
#include "nvc_ldconfig.h"
#include "nvc_ns.h"
#include "nvc_syscalls.h"
#include "nvc_undo.h"
#include "nvc_worker.h"

#define STOP_MS 1000 /* how long a worker that shall stop may take, before it is killed */

/* What the children tell, and are told, in memory shared with them. */
struct outcome {
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
	struct outcome *outcome;
	struct nvc_worker worker;
	int program_fd;
	int timeout_ms;
	pid_t parent;
	struct stat host_root;
};

/* --- in the child ------------------------------------------------------------------------------
 */

/* Resolve the container's root in its namespace, as the caller named it. */
static int open_rootfs(const struct nvc_job *job, struct nvc_root *out, struct nvc_error *err)
{
	const char *rootfs = job->journal.file->rootfs;
	struct nvc_root host = {job->container.root_fd, "/", job->kernel.openat2, -1};
	struct nvc_walk how = {.follow = false};
	struct nvc_place place;

	out->openat2 = job->kernel.openat2;
	if (rootfs[0] == '\0') {
		out->fd = job->container.root_fd;
		out->name = "/";
		return 0;
	}
	if (nvc_path_walk(&host, rootfs, &how, &place, err) < 0) {
		err->code = NVC_ENAMESPACE;
		return -1;
	}
	if (place.fd < 0 || !S_ISDIR(place.mode)) {
		errno = place.fd < 0 ? ENOENT : ENOTDIR;
		return nvc_fail_errno(err, NVC_ENAMESPACE, "open", rootfs);
	}
	out->fd = place.fd; /* lives as long as the child */
	out->name = rootfs;
	return 0;
}

static bool is_journal_root(const struct nvc_job *job, int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && st.st_dev == job->journal.file->root_dev &&
	       st.st_ino == job->journal.file->root_ino;
}

/* Find the root that the journal is about: the process may have pivoted to it since. */
static int find_rootfs(const struct nvc_job *job, struct nvc_root *out, struct nvc_error *err)
{
	out->openat2 = job->kernel.openat2;
	out->name = "/";
	out->fd = job->container.root_fd;
	if (is_journal_root(job, out->fd))
		return 0;
	/* The process may also have changed its root on its own; the namespace's stays. */
	out->fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (is_journal_root(job, out->fd))
		return 0;
	if (open_rootfs(job, out, err) < 0)
		return -1;
	if (is_journal_root(job, out->fd))
		return 0;
	return nvc_fail(err, NVC_ENAMESPACE, "check", out->name,
	                "no longer the directory that was changed");
}

static struct nvc_undo undo_job(struct nvc_job *job, const struct nvc_root *root)
{
	return (struct nvc_undo){.journal = &job->journal,
	                         .root = root,
	                         .cgroup = &job->cgroup,
	                         .groups = &job->groups,
	                         .program = {job->program_fd, job->timeout_ms / 2}};
}

/* Undo everything. A worker whose parent is gone also removes the journal, once it is empty. */
static int undo_in(struct nvc_job *job, const struct nvc_root *root)
{
	struct nvc_undo undo = undo_job(job, root);
	int result = nvc_undo_all(&undo, &job->outcome->left);

	if (result == 0) /* also what another worker, dead now, could not undo */
		job->outcome->left.code = NVC_OK;
	job->outcome->undone = 1;
	if (result == 0 && job->file.dir_fd >= 0 && getppid() != job->parent)
		(void)unlinkat(job->file.dir_fd, job->file.name, 0);
	return result;
}

/* Enter the container, holding on to the host's view of our own descriptors. Returns that. */
static int enter(struct nvc_job *job, int fds_fd, struct nvc_error *err)
{
	if (nvc_ns_enter(&job->container, err) < 0)
		return -1;
	if (nvc_groups_enter(&job->groups, fds_fd) < 0)
		return nvc_fail_errno(err, NVC_ENAMESPACE, "open", "/proc/self/mountinfo");
	return 0;
}

static int open_fds(struct nvc_error *err)
{
	int fd = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? nvc_fail_errno(err, NVC_ENAMESPACE, "open", "/proc/self/fd") : fd;
}

static bool has_kind(const struct nvc_plan *plan, uint32_t kind)
{
	for (uint32_t i = 0; i < plan->count; i++) {
		if (plan->ops[i].kind == kind)
			return true;
	}
	return false;
}

static bool has_mounts(const struct nvc_plan *plan)
{
	return has_kind(plan, NVC_OP_BIND_MOUNT) || has_kind(plan, NVC_OP_TMPFS) ||
	       has_kind(plan, NVC_OP_DEVICE_NODE);
}

/* mount(2) takes its sources from what the container sees: that must still be the host's tree,
 * never the image's. */
static int check_way(const struct nvc_job *job, const struct nvc_mounter *mounter,
                     struct nvc_error *err)
{
	struct stat st;

	if (mounter->way != NVC_MOUNTS_CLASSIC || !has_mounts(&job->plan) ||
	    (job->journal.file->rootfs[0] != '\0' && stat("/", &st) == 0 &&
	     st.st_dev == job->host_root.st_dev && st.st_ino == job->host_root.st_ino))
		return 0;
	return nvc_fail(err, NVC_EKERNEL, job->kernel.open_tree ? "move_mount" : "open_tree", NULL,
	                "a container that has already changed its root needs kernel 5.2 or newer");
}

static int apply_all(struct nvc_job *job, struct nvc_ops *ops, struct nvc_error *err)
{
	struct nvc_journal_file *file = job->journal.file;
	struct nvc_mounter mounter;
	struct stat st;

	ops->mounter = &mounter;
	ops->root.fds_fd = open_fds(err);
	if (ops->root.fds_fd < 0 ||
	    nvc_mounter_open(&job->kernel, ops->root.fds_fd, &mounter, err) < 0 ||
	    nvc_ops_prepare(ops, err) < 0 || enter(job, ops->root.fds_fd, err) < 0 ||
	    check_way(job, &mounter, err) < 0 || open_rootfs(job, &ops->root, err) < 0)
		return -1;
	if (fstat(ops->root.fd, &st) < 0)
		return nvc_fail_errno(err, NVC_ENAMESPACE, "stat", ops->root.name);
	file->root_dev = st.st_dev;
	file->root_ino = st.st_ino;
	return nvc_ops_run(ops, err);
}

static int apply_body(void *cookie)
{
	struct nvc_job *job = cookie;
	struct outcome *outcome = job->outcome;
	struct nvc_ops ops = {.plan = &job->plan,
	                      .groups = &job->groups,
	                      .loose = job->loose,
	                      .journal = &job->journal,
	                      .root = {.fd = -1},
	                      .cgroup = &job->cgroup,
	                      .stop = {&outcome->stop, job->parent},
	                      .program = {job->program_fd, job->timeout_ms / 2},
	                      .uid = job->container.uid,
	                      .gid = job->container.gid,
	                      .current = &outcome->current,
	                      .warnings = outcome->warnings};

	outcome->current = NVC_OPS_NONE;
	if (apply_all(job, &ops, &outcome->err) == 0)
		return 0;
	(void)undo_in(job, &ops.root);
	return -1;
}

static int undo_body(void *cookie)
{
	struct nvc_job *job = cookie;
	struct nvc_error *left = &job->outcome->left;
	struct nvc_root root;
	struct nvc_undo rules = undo_job(job, &root);
	int fds_fd = open_fds(left);

	/* First what needs nothing of the container, and matters most. */
	(void)nvc_undo_rules(&rules, left);
	if (fds_fd < 0 || enter(job, fds_fd, left) < 0 || find_rootfs(job, &root, left) < 0)
		return -1;
	root.fds_fd = fds_fd;
	return undo_in(job, &root);
}

/* --- in the parent -----------------------------------------------------------------------------
 */

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

	if (nvc_worker_start(undo_body, job, job->timeout_ms, &job->worker, err) < 0)
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

static bool is_host_root(const struct nvc_job *job)
{
	struct stat st;

	return fstat(job->container.root_fd, &st) == 0 && st.st_dev == job->host_root.st_dev &&
	       st.st_ino == job->host_root.st_ino;
}

static int prepare_apply(struct nvc_job *job, const struct nvc_target *target,
                         struct nvc_error *err)
{
	bool cache = has_kind(&job->plan, NVC_OP_LOADER_CACHE);

	if (strlen(target->rootfs) >= PATH_MAX ||
	    (target->rootfs[0] != '\0' && target->rootfs[0] != '/'))
		return nvc_fail(err, NVC_EINVAL, "check", target->rootfs,
		                "the rootfs is not an absolute path");
	if (open_container(job, target->pid, err) < 0 ||
	    open_tools(job, has_kind(&job->plan, NVC_OP_DEVICE_ACCESS),
	               cache ? target->ldconfig : NULL, err) < 0)
		return -1;
	if (target->rootfs[0] == '\0' && is_host_root(job))
		return nvc_fail(err, NVC_ENAMESPACE, "check", NULL,
		                "the process's root is the host's: it is no container, or one that "
		                "has not changed its root yet and whose rootfs must be named");
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
	    nvc_worker_start(apply_body, job, job->timeout_ms, &job->worker, err) < 0)
		return NULL;
	return nvc_steal_ptr(&job);
}

/* See to it that nothing is left, and say so if something is. */
static void clean_up(struct nvc_job *job, struct nvc_report *report)
{
	struct outcome *outcome = job->outcome;
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
	struct outcome *outcome = job->outcome;
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

static int prepare_detach(struct nvc_job *job, const char *ldconfig, struct nvc_error *err)
{
	const struct nvc_journal *journal = &job->journal;
	bool cgroup, cache;

	if (nvc_journal_open(job->file.fd, &job->journal, err) < 0 ||
	    open_container(job, journal->file->pid, err) < 0)
		return -1;
	if (job->container.start_time != journal->file->start_time)
		return nvc_fail(err, NVC_ENAMESPACE, "check", NULL,
		                "the container's process is gone: its pid names another one now");
	cgroup = logged(journal, NVC_STEP_DEVLIST) || logged(journal, NVC_STEP_DEVPROG);
	cache = logged(journal, NVC_STEP_CACHE);
	return open_tools(job, cgroup, cache ? ldconfig : NULL, err);
}

int nvc_detach(const struct nvc_journal_file_at *journal, const char *ldconfig, int timeout_ms,
               struct nvc_report *report, struct nvc_error *err)
{
	autojob *job = new_job(timeout_ms, err);

	memset(report, 0, sizeof *report);
	if (job == NULL)
		return -1;
	job->file = *journal;
	if (prepare_detach(job, ldconfig, err) < 0)
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
