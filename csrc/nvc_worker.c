/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

#include "nvc_cleanup.h"
#include "nvc_syscalls.h"

#define LOOK_MS 50   /* how often to look at a worker that the pipe says nothing of */
#define REAP_MS 2000 /* how long a killed child may take to go */

static long now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* In the child. No signal but the one that ends it when nobody is left who would. */
static void settle(int timeout_ms)
{
	struct itimerval timer = {.it_value = {.tv_sec = (2L * timeout_ms + REAP_MS) / 1000 + 1}};
	struct rlimit files;
	sigset_t most;

	(void)signal(SIGALRM, SIG_DFL);
	(void)sigfillset(&most);
	(void)sigdelset(&most, SIGALRM);
	(void)sigprocmask(SIG_SETMASK, &most, NULL);
	(void)setitimer(ITIMER_REAL, &timer, NULL);
	(void)umask(0);
	/* One descriptor for each mount: as many as we may have. */
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
}

int nvc_worker_start(int (*body)(void *cookie), void *cookie, int timeout_ms,
                     struct nvc_worker *out, struct nvc_error *err)
{
	int pipe_fds[2];

	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return nvc_fail_errno(err, NVC_EINTERNAL, "open", "pipe");
	out->deadline_ms = now_ms() + timeout_ms;
	out->pid = nvc_clone(0);
	if (out->pid == 0) {
		settle(timeout_ms);
		_exit(body(cookie) == 0 ? 0 : 1);
	}
	nvc_autofd int alive_fd = pipe_fds[0];
	nvc_close_fd(&pipe_fds[1]);
	if (out->pid < 0)
		return nvc_fail_errno(err, NVC_EINTERNAL, "process creation", "worker");
	out->alive_fd = nvc_steal_fd(&alive_fd);
	return 0;
}

void nvc_worker_hurry(struct nvc_worker *worker, int timeout_ms)
{
	long deadline_ms = now_ms() + timeout_ms;

	if (deadline_ms < worker->deadline_ms)
		worker->deadline_ms = deadline_ms;
}

static bool has_exited(pid_t pid)
{
	siginfo_t info = {.si_pid = 0};

	return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT | WNOHANG | __WALL) == 0 &&
	       info.si_pid == pid;
}

/* 1: gone; 0: not in time; -1: interrupted. A process that somebody else forked at the same moment
 * may hold the other end of the pipe, too: so look at the worker itself from time to time. */
static int wait_gone(const struct nvc_worker *worker, long deadline_ms, bool interruptible)
{
	struct pollfd poll_fd = {.fd = worker->alive_fd, .events = POLLIN};

	for (;;) {
		long left = deadline_ms - now_ms();
		int ready = poll(&poll_fd, 1, left > LOOK_MS ? LOOK_MS : left > 0 ? (int)left : 0);
		if (ready > 0 || (ready == 0 && has_exited(worker->pid)))
			return 1;
		if (ready == 0 && left <= LOOK_MS)
			return 0;
		if (ready < 0 && errno == EINTR && interruptible)
			return -1;
	}
}

static enum nvc_wait reap(struct nvc_worker *worker)
{
	int status = 0;
	pid_t got;

	do
		got = waitpid(worker->pid, &status, __WALL);
	while (got < 0 && errno == EINTR);
	worker->pid = -1;
	nvc_close_fd(&worker->alive_fd);
	if (got < 0 || !WIFEXITED(status))
		return NVC_WAIT_KILLED;
	return WEXITSTATUS(status) == 0 ? NVC_WAIT_DONE : NVC_WAIT_FAILED;
}

enum nvc_wait nvc_worker_wait(struct nvc_worker *worker, bool interruptible)
{
	int gone = wait_gone(worker, worker->deadline_ms, interruptible);

	if (gone < 0)
		return NVC_WAIT_INTERRUPTED;
	if (gone > 0)
		return reap(worker);
	(void)kill(worker->pid, SIGKILL);
	/* A child in an uninterruptible call stays; so do not wait for ever. */
	if (wait_gone(worker, now_ms() + REAP_MS, false) <= 0) {
		nvc_close_fd(&worker->alive_fd);
		return NVC_WAIT_STUCK;
	}
	(void)reap(worker);
	return NVC_WAIT_TIMEOUT;
}
