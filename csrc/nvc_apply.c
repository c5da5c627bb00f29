/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_apply.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "nvc_cgroup.h"
#include "nvc_cleanup.h"
#include "nvc_kernel.h"
#include "nvc_ldconfig.h"
#include "nvc_ns.h"
#include "nvc_syscalls.h"
#include "nvc_undo.h"

#define REAP_MS 2000 /* how long a killed child may take to go */

/* What the children tell, in memory shared with them. */
struct outcome {
	struct nvc_error err;  /* of the failing operation */
	struct nvc_error left; /* of the undo */
	uint32_t current;      /* operation at work */
	uint32_t undone;       /* the failing child has undone everything, or tried */
	char warnings[NVC_OPS_WARNINGS_MAX];
};

struct job {
	struct nvc_plan plan;
	struct nvc_kernel kernel;
	struct nvc_container container;
	struct nvc_journal journal;
	struct outcome *outcome;
	struct nvc_loose_mount *loose;
	int cgroup_fd, program_fd;
	int timeout_ms;
};

typedef int job_body(struct job *job);

/* --- in the child --------------------------------------------------------------------------------
 */

/* Resolve the container's root in its namespace, as the caller named it. */
static int open_rootfs(const struct job *job, struct nvc_root *out, struct nvc_error *err)
{
	const char *rootfs = job->journal.file->rootfs;
	struct nvc_root host = {job->container.root_fd, "/", job->kernel.openat2};
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

static bool is_journal_root(const struct job *job, int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && st.st_dev == job->journal.file->root_dev &&
	       st.st_ino == job->journal.file->root_ino;
}

/* Find the root that the journal is about: the process may have pivoted to it since. */
static int find_rootfs(const struct job *job, struct nvc_root *out, struct nvc_error *err)
{
	out->openat2 = job->kernel.openat2;
	out->fd = job->container.root_fd;
	out->name = "/";
	if (is_journal_root(job, out->fd))
		return 0;
	if (open_rootfs(job, out, err) < 0)
		return -1;
	if (is_journal_root(job, out->fd))
		return 0;
	return nvc_fail(err, NVC_ENAMESPACE, "check", out->name,
	                "no longer the directory that was changed");
}

static int undo_in(const struct job *job, const struct nvc_root *root)
{
	struct nvc_undo undo = {(struct nvc_journal *)(uintptr_t)&job->journal, root,
	                        job->cgroup_fd, job->program_fd};

	job->outcome->undone = 1;
	return nvc_undo_all(&undo, &job->outcome->left);
}

static int apply_body(struct job *job)
{
	struct outcome *outcome = job->outcome;
	struct nvc_error *err = &outcome->err;
	struct nvc_journal_file *file = job->journal.file;
	struct nvc_ops ops = {.plan = &job->plan,
	                      .loose = job->loose,
	                      .journal = &job->journal,
	                      .cgroup_fd = job->cgroup_fd,
	                      .program_fd = job->program_fd,
	                      .uid = job->container.uid,
	                      .gid = job->container.gid,
	                      .current = &outcome->current,
	                      .warnings = outcome->warnings};
	struct stat st;

	if (nvc_ops_prepare(&ops, err) < 0 || nvc_ns_enter(&job->container, err) < 0 ||
	    open_rootfs(job, &ops.root, err) < 0)
		return -1;
	if (fstat(ops.root.fd, &st) < 0)
		return nvc_fail_errno(err, NVC_ENAMESPACE, "stat", ops.root.name);
	file->root_dev = st.st_dev;
	file->root_ino = st.st_ino;
	if (nvc_ops_run(&ops, err) == 0)
		return 0;
	(void)undo_in(job, &ops.root);
	return -1;
}

static int undo_body(struct job *job)
{
	struct nvc_root root;

	if (nvc_ns_enter(&job->container, &job->outcome->left) < 0 ||
	    find_rootfs(job, &root, &job->outcome->left) < 0)
		return -1;
	return undo_in(job, &root);
}

/* Alone from here on: no signal handler of the caller runs, no umask of the caller counts, and we
 * do not outlive whom we work for. */
static void become_worker(void)
{
	struct rlimit files;
	sigset_t all;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, NULL);
	(void)umask(0);
	/* One descriptor for each mount: as many as we may have. */
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
}

/* --- in the parent
 * --------------------------------------------------------------------------------- */

static long now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Wait until the other end of the pipe is gone: the child, whatever became of it. */
static bool wait_gone(int fd, int timeout_ms)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
	long deadline = now_ms() + timeout_ms;

	for (;;) {
		long left = deadline - now_ms();
		int ready = poll(&poll_fd, 1, left > 0 ? (int)left : 0);
		if (ready > 0)
			return true;
		if (ready == 0 || errno != EINTR)
			return false;
	}
}

static int reap(pid_t pid, int *status)
{
	pid_t got;

	do
		got = waitpid(pid, status, __WALL);
	while (got < 0 && errno == EINTR);
	return got == pid ? 0 : -1;
}

/* Run a body in a child under the job's deadline. 0: it ended well. -1 with `err`: it said why,
 * hung, or died. */
static int run_child(struct job *job, job_body *body, const struct nvc_error *said,
                     struct nvc_error *err)
{
	int pipe_fds[2], status = 0;
	bool timed_out = false;
	pid_t pid;

	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return nvc_fail_errno(err, NVC_EINTERNAL, "open", "pipe");
	pid = nvc_clone(0);
	if (pid == 0) {
		become_worker();
		_exit(body(job) == 0 ? 0 : 1);
	}
	(void)close(pipe_fds[1]);
	nvc_autofd int alive_fd = pipe_fds[0];
	if (pid < 0)
		return nvc_fail_errno(err, NVC_EINTERNAL, "process creation", "worker");
	if (!wait_gone(alive_fd, job->timeout_ms)) {
		timed_out = true;
		(void)kill(pid, SIGKILL);
		/* A child in an uninterruptible call stays; so do not wait for ever. */
		if (!wait_gone(alive_fd, REAP_MS))
			return nvc_fail(err, NVC_ETIMEOUT, "apply", NULL,
			                "the worker hangs in a system call and cannot be killed");
	}
	if (reap(pid, &status) < 0)
		return nvc_fail_errno(err, NVC_EINTERNAL, "process reaping", "worker");
	if (timed_out)
		return nvc_fail(err, NVC_ETIMEOUT, "apply", NULL,
		                "the worker did not finish before its deadline");
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (WIFEXITED(status) && said->code != NVC_OK) {
		*err = *said;
		return -1;
	}
	return nvc_fail(err, NVC_ECRASH, "apply", NULL, "the worker was killed");
}

static void *map_shared(size_t size, struct nvc_error *err)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory != MAP_FAILED)
		return memory;
	(void)nvc_fail_errno(err, NVC_EINTERNAL, "map", "shared memory");
	return NULL;
}

static bool has_kind(const struct nvc_plan *plan, uint32_t kind)
{
	for (uint32_t i = 0; i < plan->count; i++) {
		if (plan->ops[i].kind == kind)
			return true;
	}
	return false;
}

static void job_close(struct job *job)
{
	if (job->outcome != NULL)
		(void)munmap(job->outcome, sizeof *job->outcome);
	if (job->journal.base != NULL)
		nvc_journal_close(&job->journal);
	nvc_free_ptr(&job->loose);
	nvc_close_fd(&job->program_fd);
	nvc_close_fd(&job->cgroup_fd);
	nvc_ns_close(&job->container);
}

#define job_init {.container = {.mnt_fd = -1, .root_fd = -1}, .cgroup_fd = -1, .program_fd = -1}
#define autojob  __attribute__((cleanup(job_close))) struct job

static int prepare_journal(struct job *job, const struct nvc_target *target, int journal_fd,
                           struct nvc_error *err)
{
	struct nvc_journal_file *file;
	nvc_autofd int memory_fd = -1;

	if (journal_fd < 0) {
		memory_fd = memfd_create("journal", MFD_CLOEXEC);
		if (memory_fd < 0)
			return nvc_fail_errno(err, NVC_EINTERNAL, "create", "journal");
		journal_fd = memory_fd;
	}
	if (nvc_journal_create(journal_fd, &job->journal, err) < 0)
		return -1;
	file = job->journal.file;
	file->pid = target->pid;
	file->start_time = job->container.start_time;
	file->uid = job->container.uid;
	file->gid = job->container.gid;
	nvc_copy(file->rootfs, sizeof file->rootfs, target->rootfs);
	return 0;
}

static int prepare_apply(struct job *job, const struct nvc_target *target, int journal_fd,
                         struct nvc_error *err)
{
	size_t count = job->plan.count == 0 ? 1 : job->plan.count;

	if (strlen(target->rootfs) >= PATH_MAX ||
	    (target->rootfs[0] != '\0' && target->rootfs[0] != '/'))
		return nvc_fail(err, NVC_EINVAL, "check", target->rootfs,
		                "the rootfs is not an absolute path");
	if (nvc_kernel_require_mounts(&job->kernel, err) < 0 ||
	    nvc_ns_open(target->pid, &job->container, err) < 0)
		return -1;
	if (has_kind(&job->plan, NVC_OP_DEVICE_ACCESS)) {
		job->cgroup_fd = nvc_cgroup_open(target->pid, err);
		if (job->cgroup_fd < 0)
			return -1;
	}
	if (has_kind(&job->plan, NVC_OP_LOADER_CACHE)) {
		job->program_fd = nvc_ldconfig_load(target->ldconfig, err);
		if (job->program_fd < 0)
			return -1;
	}
	job->loose = calloc(count, sizeof *job->loose);
	if (job->loose == NULL)
		return nvc_fail_errno(err, NVC_EINTERNAL, "allocate", "mounts");
	job->outcome = map_shared(sizeof *job->outcome, err);
	return job->outcome == NULL ? -1 : prepare_journal(job, target, journal_fd, err);
}

/* After a failure: see to it that nothing is left, and say so if something is. */
static void clean_up(struct job *job, struct nvc_report *report)
{
	struct outcome *outcome = job->outcome;

	if (outcome->undone == 0 && job->journal.file->log_len > 0) {
		struct nvc_error left;
		if (run_child(job, undo_body, &outcome->left, &left) < 0)
			outcome->left = left;
		outcome->undone = 1;
	}
	report->left = outcome->left;
	report->undone = outcome->undone;
}

int nvc_apply(const uint8_t *buf, size_t len, const struct nvc_target *target, int journal_fd,
              struct nvc_report *report, struct nvc_error *err)
{
	autojob job = job_init;
	int result;

	memset(report, 0, sizeof *report);
	if (nvc_plan_open(buf, len, &job.plan, err) < 0)
		return -1;
	nvc_kernel_probe(&job.kernel);
	job.timeout_ms = target->timeout_ms;
	if (prepare_apply(&job, target, journal_fd, err) < 0)
		return -1;
	result = run_child(&job, apply_body, &job.outcome->err, err);
	if (result < 0) {
		if (err->code == NVC_ETIMEOUT || err->code == NVC_ECRASH)
			err->op_index = (int)job.outcome->current;
		clean_up(&job, report);
	}
	memcpy(report->warnings, job.outcome->warnings, sizeof report->warnings);
	report->warnings[sizeof report->warnings - 1] = '\0';
	return result;
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

static int prepare_detach(struct job *job, int journal_fd, const char *ldconfig,
                          struct nvc_error *err)
{
	struct nvc_journal_file *file;

	if (nvc_journal_open(journal_fd, &job->journal, err) < 0)
		return -1;
	file = job->journal.file;
	if (nvc_ns_open(file->pid, &job->container, err) < 0)
		return -1;
	if (job->container.start_time != file->start_time)
		return nvc_fail(err, NVC_ENAMESPACE, "check", NULL,
		                "the container's process is gone: its pid names another one now");
	if (logged(&job->journal, NVC_STEP_CGROUP)) {
		job->cgroup_fd = nvc_cgroup_open(file->pid, err);
		if (job->cgroup_fd < 0)
			return -1;
	}
	if (logged(&job->journal, NVC_STEP_CACHE)) {
		job->program_fd = nvc_ldconfig_load(ldconfig, err);
		if (job->program_fd < 0)
			return -1;
	}
	job->outcome = map_shared(sizeof *job->outcome, err);
	return job->outcome == NULL ? -1 : 0;
}

int nvc_detach(int journal_fd, const char *ldconfig, int timeout_ms, struct nvc_report *report,
               struct nvc_error *err)
{
	autojob job = job_init;

	memset(report, 0, sizeof *report);
	nvc_kernel_probe(&job.kernel);
	job.timeout_ms = timeout_ms;
	if (prepare_detach(&job, journal_fd, ldconfig, err) < 0)
		return -1;
	if (run_child(&job, undo_body, &job.outcome->left, err) < 0) {
		report->left = job.outcome->left;
		return -1;
	}
	report->undone = 1;
	return 0;
}

int nvc_container_start_time(int pid, uint64_t *out, struct nvc_error *err)
{
	struct nvc_container container;

	if (nvc_ns_open(pid, &container, err) < 0)
		return -1;
	*out = container.start_time;
	nvc_ns_close(&container);
	return 0;
}
