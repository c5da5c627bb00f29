/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "nvc_cleanup.h"

#define NAP_NS 1000000L

/* Whether a file still has its name: whoever held the lock may have removed it. */
static bool is_at(int fd, int dir_fd, const char *name)
{
	struct stat held, named;

	return fstat(fd, &held) == 0 && fstatat(dir_fd, name, &named, 0) == 0 &&
	       held.st_dev == named.st_dev && held.st_ino == named.st_ino;
}

/* 1: held; 0: by others; -1: errno. */
static int hold(int fd, int dir_fd, const char *name)
{
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return is_at(fd, dir_fd, name);
	return errno == EWOULDBLOCK || errno == EINTR ? 0 : -1;
}

static long since_ms(const struct timespec *start)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - start->tv_sec) * 1000 + (now.tv_nsec - start->tv_nsec) / 1000000;
}

int nvc_lock_take(int dir_fd, const char *name, int *left_ms, int *out, struct nvc_error *err)
{
	struct timespec start, nap = {.tv_nsec = NAP_NS};
	nvc_autofd int fd = -1;
	long passed;
	int held;

	*out = -1;
	(void)clock_gettime(CLOCK_MONOTONIC, &start);
	fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return nvc_fail_errno(err, NVC_EINTERNAL, "file creation", NULL);
	held = hold(fd, dir_fd, name);
	if (held < 0)
		return nvc_fail_errno(err, NVC_EINTERNAL, "lock", NULL);
	if (held > 0) {
		*out = nvc_steal_fd(&fd);
		return 0;
	}
	if (*left_ms <= 0)
		return 0;
	(void)nanosleep(&nap, NULL);
	passed = since_ms(&start);
	*left_ms = passed < *left_ms ? *left_ms - (int)passed : 0;
	return NVC_LOCK_BUSY;
}

void nvc_lock_release(int lock_fd, int dir_fd, const char *name)
{
	if (name[0] != '\0')
		(void)unlinkat(dir_fd, name, 0);
	/* By hand: a process that another thread forked meanwhile has the descriptor, too. */
	(void)flock(lock_fd, LOCK_UN);
	(void)close(lock_fd);
}

void nvc_lock_remove_unheld(int dir_fd, const char *name)
{
	nvc_autofd int fd = openat(dir_fd, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);

	/* Whoever opened it just now sees that it has no name any more, and makes another. */
	if (fd >= 0 && hold(fd, dir_fd, name) > 0)
		(void)unlinkat(dir_fd, name, 0);
}

bool nvc_lock_name_root(int pid, const char *rootfs, char out[NVC_LOCK_NAME])
{
	char path[PATH_MAX + 32];
	struct stat st;
	int len = pid == 0 ? snprintf(path, sizeof path, "%s", rootfs)
	                   : snprintf(path, sizeof path, "/proc/%d/root%s", pid, rootfs);

	/* What is too long or not there: whoever applies says so. */
	if (len < 0 || (size_t)len >= sizeof path || stat(path, &st) < 0)
		return false;
	(void)snprintf(out, NVC_LOCK_NAME, "root.%llu.%llu", (unsigned long long)st.st_dev,
	               (unsigned long long)st.st_ino);
	return true;
}
