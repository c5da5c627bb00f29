/* SPDX-License-Identifier: Apache-2.0 */
#include "hook.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>

#include "cdi.h"
#include "file.h"
#include "nvc_apply.h"
#include "nvc_cleanup.h"
#include "nvc_io.h"
#include "nvc_lock.h"
#include "nvc_syscalls.h"
#include "prestart.h"
#include "python.h"
#include "say.h"
#include "state.h"

#define WHO           "nvidia-container-runtime-hook"
#define RUN_DIRECTORY "/run/libnvc" /* libnvc/_rundir.py */
#define STATE_MAX     (1u << 20)
#define PLAN_MAX      (16u << 20)
#define TIMEOUT_S     30
#define PYTHON_HOOK   "from libnvc.cli.runtime_hook import run; run()"

/* The lock of the container's root file system: whoever applies from Python holds it, too. */
struct root_lock {
	int dir_fd;
	int fd;
	char name[NVC_LOCK_NAME];
};

/* A handler has nothing else to tell the program by. */
static volatile sig_atomic_t stopped;

/* A signal that comes just before a wait does not interrupt it, so others follow. */
static void stop(int number)
{
	const struct itimerval again = {.it_interval = {.tv_usec = 100000},
	                                .it_value = {.tv_usec = 100000}};

	(void)number;
	stopped = 1;
	(void)setitimer(ITIMER_REAL, &again, NULL);
}

/* Let signals that would end the process have its work undone first. */
static void catch_signals(void)
{
	static const int numbers[] = {SIGHUP, SIGINT, SIGTERM, SIGALRM};
	struct sigaction action = {.sa_handler = stop};
	sigset_t none;

	(void)sigfillset(&action.sa_mask);
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
		(void)sigaction(numbers[i], &action, NULL);
	(void)signal(SIGPIPE, SIG_IGN); /* what is done stays done if nobody hears of it */
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static int fail(const struct nvc_error *err)
{
	char text[SAY_MAX];

	say_describe(err, text);
	say(WHO, "%s", text);
	return -1;
}

static int fail_file(const char *what, const char *path)
{
	struct nvc_error err;

	(void)nvc_fail_errno(&err, NVC_EINTERNAL, what, path);
	return fail(&err);
}

static int read_pid(void)
{
	auto_file struct file file = {.data = NULL};
	struct state state = {.pid = -1};
	const char *why = NULL;

	if (file_read_stream(STDIN_FILENO, STATE_MAX, &file) < 0)
		why = errno == EFBIG ? "larger than 1 MiB" : strerror(errno);
	else
		why = state_read(file.data, file.len, &state) ? state.no_pid
		                                              : "not a JSON object in UTF-8";
	if (why != NULL)
		say(WHO, "could not decode container state: %s", why);
	return state.pid;
}

static int read_plan(const char *path, struct file *out)
{
	const char *why = "others than root may write to it";

	if (file_read(AT_FDCWD, path, 0, PLAN_MAX, out) == 0) {
		if (file_is_private(&out->st))
			return 0;
	} else if (errno == EINVAL) {
		why = "not a regular file";
	} else {
		return fail_file("open", path);
	}
	say(WHO, "%s: %s", path, why);
	return -1;
}

/* A descriptor of the directory of locks; -1 where we may not have one; -2, said why, where others
 * may enter it. */
static int open_run_directory(void)
{
	struct stat st;

	if (mkdir(RUN_DIRECTORY, 0700) < 0 && errno != EEXIST)
		return -1;
	nvc_autofd int fd = open(RUN_DIRECTORY, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && errno == EACCES)
		return -1;
	if (fd < 0 || fstat(fd, &st) < 0) {
		(void)fail_file("open", RUN_DIRECTORY);
		return -2;
	}
	if (st.st_uid == geteuid() && (st.st_mode & 077) == 0)
		return nvc_steal_fd(&fd);
	if (geteuid() != 0)
		return -1;
	say(WHO, RUN_DIRECTORY ": others than root may enter it: remove it, or make it root's and "
	                       "0700");
	return -2;
}

static void unlock_root(struct root_lock *lock)
{
	if (lock->fd >= 0)
		nvc_lock_release(lock->fd, lock->dir_fd, lock->name);
	nvc_close_fd(&lock->dir_fd);
}

static int lock_root(int pid, const char *rootfs, struct root_lock *out)
{
	int left_ms = TIMEOUT_S * 1000, result = NVC_LOCK_BUSY;
	struct nvc_error err;

	out->dir_fd = open_run_directory();
	if (out->dir_fd < 0)
		return out->dir_fd == -1 ? 0 : -1;
	/* Where no such root is, whoever applies says so. */
	if (!nvc_lock_name_root(pid, rootfs, out->name))
		return 0;
	while (result == NVC_LOCK_BUSY && !stopped)
		result = nvc_lock_take(out->dir_fd, out->name, &left_ms, &out->fd, &err);
	if (stopped) {
		say(WHO, "interrupted by a signal");
		return -1;
	}
	if (result < 0) {
		(void)snprintf(err.path, sizeof err.path, RUN_DIRECTORY "/%s", out->name);
		return fail(&err);
	}
	if (out->fd < 0)
		say(WHO,
		    "warning: " RUN_DIRECTORY "/%s: another container with this root file system "
		    "is being changed for more than %d seconds: going on without waiting for it",
		    out->name, TIMEOUT_S);
	return 0;
}

static void say_warnings(char *lines)
{
	for (char *line; (line = strsep(&lines, "\n")) != NULL;) {
		if (line[0] != '\0')
			say(WHO, "warning: %s", line);
	}
}

/* Say what failed, and what is left if undoing it did, too. */
static int fail_apply(const char *first, const struct nvc_report *report)
{
	char left[SAY_MAX];

	if (report->left.code == NVC_OK) {
		say(WHO, "%s", first);
		return -1;
	}
	say_describe(&report->left, left);
	say(WHO, "%s: left in the container; what failed first: %s", left, first);
	return -1;
}

static int wait_for(struct nvc_job *job)
{
	struct nvc_report report;
	struct nvc_error err;
	char text[SAY_MAX];
	int result;

	do
		result = nvc_apply_wait(job, &report, &err);
	while (result == NVC_INTERRUPTED && !stopped);
	if (result < 0) {
		say_describe(&err, text);
		return fail_apply(text, &report);
	}
	if (stopped) {
		(void)nvc_apply_cancel(job, &report);
		return fail_apply("interrupted by a signal", &report);
	}
	say_warnings(report.warnings);
	return 0;
}

static int apply(const struct file *plan, const struct nvc_target *target)
{
	nvc_autofd int journal_fd = memfd_create("libnvc-journal", MFD_CLOEXEC);
	struct nvc_journal_file_at journal = {.fd = journal_fd, .dir_fd = -1, .name = ""};
	struct nvc_error err;
	struct nvc_job *job;
	int result;

	if (journal_fd < 0)
		return fail_file("file creation", "journal");
	job = nvc_apply_start((const uint8_t *)plan->data, plan->len, target, &journal, &err);
	if (job == NULL)
		return fail(&err);
	result = wait_for(job);
	nvc_job_free(job);
	return result;
}

static int create_runtime(const char *plan_path, const char *rootfs, const char *ldconfig)
{
	auto_file struct file plan = {.data = NULL};
	struct root_lock lock = {.dir_fd = -1, .fd = -1};
	struct nvc_target target = {
	    .rootfs = rootfs, .ldconfig = ldconfig, .timeout_ms = TIMEOUT_S * 1000};
	int result;

	target.pid = read_pid();
	if (target.pid < 0 || read_plan(plan_path, &plan) < 0)
		return -1;
	catch_signals();
	result = lock_root(target.pid, rootfs, &lock);
	if (result == 0)
		result = apply(&plan, &target);
	unlock_root(&lock);
	return result;
}

/* Whether a path is absolute and leads through no link of procfs: /proc/self/cwd is the image's
 * root in some stages, and so what it names is the image's. */
static bool is_of_host(const char *path)
{
	struct nvc_open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = NVC_RESOLVE_NO_MAGIC};
	nvc_autofd int fd = path[0] == '/' ? nvc_openat2(AT_FDCWD, path, how) : -1;

	return path[0] == '/' && (fd >= 0 || errno != ELOOP);
}

/* Keep only those entries of a list of directories; in place, false if there are none. */
static bool clean_path(char *list)
{
	char *to = list, *rest = list;

	for (char *entry; (entry = strsep(&rest, ":")) != NULL;) {
		size_t len = strlen(entry);
		if (!is_of_host(entry))
			continue;
		if (to > list)
			*to++ = ':';
		memmove(to, entry, len);
		to += len;
	}
	*to = '\0';
	return to > list;
}

/* What an image chose may be in a hook's environment. */
static int run_python(const struct self *self, const char *program, char *const *arguments)
{
	static char standard[] = "PATH=" STANDARD_PATH;
	static const char *const names[] = {
	    "NVIDIA_CTK_CONFIG_FILE_PATH",
	    "NVIDIA_CTK_DEBUG",
	    "NVIDIA_CTK_QUIET",
	    "NVIDIA_CDI_DEBUG",
	    "NVIDIA_CDI_QUIET",
	};
	char *path = getenv("PATH");
	char *environment[sizeof names / sizeof *names + 2] = {standard};
	size_t count = 1;

	/* A variable is its name, "=" and the value. */
	if (path != NULL && clean_path(path))
		environment[0] = path - strlen("PATH=");
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		char *value = getenv(names[i]);
		if (value != NULL && (i > 0 || is_of_host(value)))
			environment[count++] = value - strlen(names[i]) - 1;
	}
	return python_exec(self, program, arguments, environment);
}

/* Make what was read of standard input what Python reads of it. False: it cannot be read. */
static bool give_back(const struct file *state)
{
	nvc_autofd int fd = memfd_create("state", 0);

	return fd >= 0 && nvc_write_all(fd, state->data, state->len) == 0 &&
	       lseek(fd, 0, SEEK_SET) == 0 && dup2(fd, STDIN_FILENO) == STDIN_FILENO;
}

/* Make our own what Python is given. */
static void clean_environment(void)
{
	static const char *const names[] = {"XDG_RUNTIME_DIR", "CUDA_MPS_PIPE_DIRECTORY"};
	const char *config = getenv("NVIDIA_CTK_CONFIG_FILE_PATH");
	char *path = getenv("PATH");

	if (config != NULL && !is_of_host(config))
		(void)unsetenv("NVIDIA_CTK_CONFIG_FILE_PATH");
	if (path == NULL || !clean_path(path))
		(void)setenv("PATH", STANDARD_PATH, 1);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		(void)unsetenv(names[i]);
}

/* Have Python read the state, too, if anything of it was read. */
static bool hand_over(const struct file *state)
{
	if (state->data == NULL || give_back(state))
		return true;
	(void)fail_file("file creation", "state");
	return false;
}

static int prestart(const struct self *self, char *const *arguments)
{
	auto_file struct file state = {.data = NULL};

	clean_environment();
	if (file_read_stream(STDIN_FILENO, PLAN_MAX, &state) == 0 && prestart_kept(self, &state))
		return 0;
	return hand_over(&state) ? run_python(self, PYTHON_HOOK, arguments) : 1;
}

int hook_run(const struct self *self, char *const *arguments)
{
	static const char word[] = "create-runtime";
	size_t count = 0;

	while (arguments[count] != NULL)
		count++;
	if ((count == 3 || count == 4) && strcmp(arguments[0], word) == 0)
		return create_runtime(arguments[1], arguments[2], arguments[3]) == 0 ? 0 : 1;
	if (count == 1 && strcmp(arguments[0], "prestart") == 0)
		return prestart(self, arguments);
	return run_python(self, PYTHON_HOOK, arguments);
}

int hook_run_cdi(const struct self *self, char **arguments)
{
	auto_file struct file state = {.data = NULL};

	clean_environment();
	if (geteuid() == 0 && cdi_reads_state(arguments) &&
	    file_read_stream(STDIN_FILENO, PLAN_MAX, &state) == 0)
		arguments = cdi_kept(self, arguments, &state);
	if (arguments == NULL)
		return 0;
	if (!hand_over(&state))
		return 1;
	return run_python(self, "from libnvc.cli.cdi_hook import run; run()", arguments);
}
