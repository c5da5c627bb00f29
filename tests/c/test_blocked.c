/* SPDX-License-Identifier: Apache-2.0 */
/* needs: error blocked */
/* What a process is blocked in. Here it is stopped where it enters a system call. */
#include "nvc_blocked.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tap.h"

static void make_call(const char *name)
{
	int fd = open("/dev/null", O_RDONLY), unread;

	(void)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	(void)raise(SIGSTOP);
	if (strcmp(name, "ioctl") == 0)
		(void)ioctl(fd, FIONREAD, &unread);
	else if (strcmp(name, "pause") == 0)
		(void)syscall(SYS_getppid);
#ifdef SYS_open
	else if (strcmp(name, "open") == 0)
		(void)syscall(SYS_open, "/dev/old", O_RDONLY);
#endif
	else
		(void)syscall(SYS_openat, AT_FDCWD, name, O_RDONLY);
	_exit(0);
}

static void *wait_forever(void *unused)
{
	(void)pause();
	return unused;
}

static const char *find(const char *name, const char *root, bool has_thread)
{
	static char path[512];
	pthread_t thread;
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (has_thread)
			(void)pthread_create(&thread, NULL, wait_forever, NULL);
		make_call(name);
	}
	(void)waitpid(pid, &status, 0);
	(void)ptrace(PTRACE_SYSCALL, pid, NULL, NULL); /* to where it returns from raise() */
	(void)waitpid(pid, &status, 0);
	(void)ptrace(PTRACE_SYSCALL, pid, NULL, NULL); /* to where it enters the call */
	(void)waitpid(pid, &status, 0);
	(void)memset(path, 'x', sizeof path - 1);
	nvc_blocked_path(pid, root, path, sizeof path);
	(void)kill(pid, SIGKILL);
	(void)waitpid(pid, &status, 0);
	return path;
}

static void test_calls(struct tap *tap)
{
	CHECK_STR(tap, find("/dev/nvidia3", "", false), "/dev/nvidia3");
	CHECK_STR(tap, find("/dev/nvidia3", "/", false), "/dev/nvidia3");
	CHECK_STR(tap, find("/dev/nvidia3", "/run/driver", false), "/run/driver/dev/nvidia3");
	CHECK_STR(tap, find("dev/nvidia3", "", false), "");
	CHECK_STR(tap, find("ioctl", "/run/driver", false), "/dev/null");
	CHECK_STR(tap, find("pause", "", false), "");
#ifdef SYS_open
	CHECK_STR(tap, find("open", "", false), "/dev/old");
#endif
	/* Its memory is left alone. */
	CHECK_STR(tap, find("/dev/nvidia3", "", true), "");
	CHECK_STR(tap, find("ioctl", "", true), "/dev/null");
}

static void test_long_paths_are_cut(struct tap *tap)
{
	char name[400], small[8];

	(void)memset(name, 'a', sizeof name);
	name[0] = '/';
	name[sizeof name - 1] = '\0';
	CHECK(tap, strlen(find(name, "", false)) == 255);
	nvc_blocked_path(getpid(), "", small,
	                 sizeof small); /* reads its own system call: running */
	CHECK_STR(tap, small, "");
}

static void test_no_such_process(struct tap *tap)
{
	char path[8] = "x";

	nvc_blocked_path(0, "", path, sizeof path);
	CHECK_STR(tap, path, "");
}

int main(void)
{
	struct tap tap = {0};

	test_calls(&tap);
	test_long_paths_are_cut(&tap);
	test_no_such_process(&tap);
	return tap_done(&tap);
}
