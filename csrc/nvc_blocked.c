/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_blocked.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "nvc_cleanup.h"

#define PATH_LEN 256 /* longer ones are cut */

/* Read the number and the first two arguments of the system call that a process is in. */
static bool read_call(pid_t pid, long *nr, unsigned long args[2])
{
	char path[64];

	(void)snprintf(path, sizeof path, "/proc/%d/syscall", pid);
	nvc_autofile FILE *file = fopen(path, "re");
	return file != NULL && fscanf(file, "%ld %lx %lx", nr, &args[0], &args[1]) == 3;
}

/* Reading the memory of a process needs the lock of its address space: another thread may hold it
 * and hang. With a single one, which is in another call, nobody does. */
static bool has_one_thread(pid_t pid)
{
	char path[64];
	struct stat status;

	(void)snprintf(path, sizeof path, "/proc/%d/task", pid);
	return stat(path, &status) == 0 && status.st_nlink == 3; /* itself, its parent, a thread */
}

/* Read a string of a process's memory, cut at `size`. */
static void read_string(pid_t pid, unsigned long address, char *out, size_t size)
{
	char path[64];
	ssize_t len;

	out[0] = '\0';
	if (!has_one_thread(pid))
		return;
	(void)snprintf(path, sizeof path, "/proc/%d/mem", pid);
	nvc_autofd int fd = open(path, O_RDONLY | O_CLOEXEC);
	len = fd < 0 ? -1 : pread(fd, out, size - 1, (off_t)address);
	out[len < 0 ? 0 : len] = '\0';
}

static void read_link(pid_t pid, unsigned long fd, char *out, size_t size)
{
	char path[64];
	ssize_t len;

	(void)snprintf(path, sizeof path, "/proc/%d/fd/%lu", pid, fd);
	len = readlink(path, out, size - 1);
	out[len < 0 ? 0 : len] = '\0';
}

void nvc_blocked_path(pid_t pid, const char *root, char *out, size_t size)
{
	unsigned long args[2];
	char path[PATH_LEN] = "";
	long nr;

	out[0] = '\0';
	if (!read_call(pid, &nr, args))
		return;
	if (nr == SYS_ioctl) {
		read_link(pid, args[0], out, size); /* that is as we see it */
		return;
	}
	if (nr == SYS_openat)
		read_string(pid, args[1], path, sizeof path);
#ifdef SYS_open
	if (nr == SYS_open)
		read_string(pid, args[0], path, sizeof path);
#endif
	if (path[0] == '/')
		(void)snprintf(out, size, "%s%s", strcmp(root, "/") == 0 ? "" : root, path);
}
