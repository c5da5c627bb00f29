/* SPDX-License-Identifier: Apache-2.0 */
/* hang MAJOR[:MINOR] -- COMMAND [ARG...]: run a command on a machine where open() of these
 * character devices never returns.
 *
 * Whoever opens one, the command or what it starts, is stopped where it enters that system call, by
 * ptrace. It can be killed. O_PATH opens no device. At the end, how many hung is told on stderr.
 * The exit status is the command's (128 and the number of the signal that killed it); 2: this
 * program failed. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define OPTIONS                                                                                    \
	(PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |  \
	 PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL)

struct device {
	unsigned major, minor;
	bool any_minor;
};

/* An open: where its path starts, the path's address, and the flags. */
struct call {
	int dir_fd;
	uint64_t path, flags;
};

static _Noreturn void die(const char *what)
{
	(void)fprintf(stderr, "hang: %s: %m\n", what);
	exit(2);
}

static ssize_t read_memory(pid_t tid, uint64_t address, void *out, size_t size)
{
	char path[64];
	ssize_t len;
	int fd;

	(void)snprintf(path, sizeof path, "/proc/%d/mem", tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	len = fd < 0 ? -1 : pread(fd, out, size, (off_t)address);
	(void)close(fd);
	return len;
}

/* Fill `call` if the tracee enters a system call that opens a file. */
static bool read_call(pid_t tid, struct call *call)
{
	struct __ptrace_syscall_info info;
	const uint64_t *args = info.entry.args;
	struct open_how how;

	if (ptrace(PTRACE_GET_SYSCALL_INFO, tid, (void *)sizeof info, &info) <= 0 ||
	    info.op != PTRACE_SYSCALL_INFO_ENTRY)
		return false;
	switch (info.entry.nr) {
#ifdef SYS_open
	case SYS_open:
		*call = (struct call){AT_FDCWD, args[0], args[1]};
		return true;
#endif
	case SYS_openat:
		*call = (struct call){(int)args[0], args[1], args[2]};
		return true;
	case SYS_openat2:
		if (read_memory(tid, args[2], &how, sizeof how) < (ssize_t)sizeof how)
			return false;
		*call = (struct call){(int)args[0], args[1], how.flags};
		return true;
	default:
		return false;
	}
}

static bool is_opening(pid_t tid, const struct device *device)
{
	char name[4096] = "", path[4200];
	struct call call;
	struct stat status;

	if (!read_call(tid, &call) || (call.flags & O_PATH) != 0 ||
	    read_memory(tid, call.path, name, sizeof name - 1) <= 0)
		return false;
	if (name[0] == '/')
		(void)snprintf(path, sizeof path, "/proc/%d/root%s", tid, name);
	else if (call.dir_fd == AT_FDCWD)
		(void)snprintf(path, sizeof path, "/proc/%d/cwd/%s", tid, name);
	else
		(void)snprintf(path, sizeof path, "/proc/%d/fd/%d/%s", tid, call.dir_fd, name);
	return stat(path, &status) == 0 && S_ISCHR(status.st_mode) &&
	       major(status.st_rdev) == device->major &&
	       (device->any_minor || minor(status.st_rdev) == device->minor);
}

/* Let a stopped tracee go on, with the signal that it was stopped for, unless it hangs. */
static void handle_stop(pid_t tid, int status, const struct device *device, unsigned *hung)
{
	int stop = WSTOPSIG(status);
	bool is_event = status >> 16 != 0;

	if (stop == (SIGTRAP | 0x80) && is_opening(tid, device)) {
		(*hung)++;
		return;
	}
	/* A tracee that was just made stops by itself: that is not a signal for it. */
	if (is_event || stop == (SIGTRAP | 0x80) || stop == SIGSTOP)
		stop = 0;
	(void)ptrace(PTRACE_SYSCALL, tid, NULL, (void *)(intptr_t)stop);
}

static int serve(pid_t command, const struct device *device, unsigned *hung)
{
	int status;

	for (;;) {
		pid_t tid = waitpid(-1, &status, __WALL);

		if (tid < 0 && errno != EINTR)
			die("wait");
		if (tid == command && !WIFSTOPPED(status))
			return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		if (tid > 0 && WIFSTOPPED(status))
			handle_stop(tid, status, device, hung);
	}
}

static pid_t start(char **command)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		(void)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		(void)raise(SIGSTOP);
		(void)execvp(command[0], command);
		die(command[0]);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
		die("start");
	if (ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)OPTIONS) < 0 ||
	    ptrace(PTRACE_SYSCALL, pid, NULL, NULL) < 0)
		die("trace");
	return pid;
}

int main(int argc, char **argv)
{
	struct device device;
	unsigned hung = 0;
	int given, result;

	given = argc < 4 ? 0 : sscanf(argv[1], "%u:%u", &device.major, &device.minor);
	if (given < 1 || strcmp(argv[2], "--") != 0) {
		(void)fputs("usage: hang MAJOR[:MINOR] -- COMMAND [ARG...]\n", stderr);
		return 2;
	}
	device.any_minor = given == 1;
	result = serve(start(argv + 3), &device, &hung);
	(void)fprintf(stderr, "hang: %u\n", hung);
	return result;
}
