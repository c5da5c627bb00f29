/* SPDX-License-Identifier: Apache-2.0 */
#include "journal.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kept.h"
#include "nvc_apply.h"
#include "nvc_cleanup.h"
#include "nvc_io.h"

#define TIMEOUT_MS  30000
#define ROOT_PREFIX "root."
#define LOCK_PREFIX "lock."
/* The inode of the first pid namespace: include/linux/proc_ns.h of the kernel. */
#define INIT_PID_NAMESPACE 0xeffffffcu

/* What the name of a journal or lock says; pid 0: it is neither. */
struct name {
	uint64_t pid, started, number;
};

static const char *take_number(const char *text, char end, uint64_t *out)
{
	*out = 0;
	if (!isdigit((unsigned char)*text))
		return NULL;
	for (; isdigit((unsigned char)*text); text++) {
		if (__builtin_mul_overflow(*out, 10u, out) ||
		    __builtin_add_overflow(*out, (uint64_t)(*text - '0'), out))
			return NULL;
	}
	return *text == end ? text + 1 : NULL;
}

static struct name parse(const char *text)
{
	bool is_lock = strncmp(text, LOCK_PREFIX, sizeof LOCK_PREFIX - 1) == 0;
	struct name name = {.pid = 0};
	const char *at = is_lock ? text + sizeof LOCK_PREFIX - 1 : text;

	at = take_number(at, '.', &name.pid);
	if (at != NULL)
		at = take_number(at, is_lock ? '\0' : '.', &name.started);
	if (at != NULL && !is_lock)
		at = take_number(at, '\0', &name.number);
	return at == NULL ? (struct name){.pid = 0} : name;
}

/* Whether a process is not the one that was started then. */
static bool is_gone(const struct name *name)
{
	char path[64], text[4096], *at;
	uint64_t started;

	(void)snprintf(path, sizeof path, "/proc/%" PRIu64 "/stat", name->pid);
	nvc_autofd int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT || errno == ESRCH;
	ssize_t len = nvc_read_all(fd, text, sizeof text - 1);
	if (len < 0)
		return errno == ESRCH;
	text[len] = '\0';
	/* Field 22; the name in field 2 may hold spaces and parentheses. */
	at = strrchr(text, ')');
	for (int field = 2; at != NULL && field < 22; field++)
		at = strchr(at + 1, ' ');
	return at != NULL && take_number(at + 1, ' ', &started) != NULL && started != name->started;
}

/* Who is in another pid namespace than the host's does not see the processes of the journals. */
static bool sees_all(void)
{
	struct stat st;

	return stat("/proc/self/ns/pid", &st) == 0 && st.st_ino == INIT_PID_NAMESPACE;
}

/* Remove what belongs to processes that are gone; return the highest number of an own journal. */
static uint64_t prune(struct journal *journal, const struct name *own)
{
	int fd = openat(journal->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	nvc_autodir DIR *directory = fd < 0 ? NULL : fdopendir(fd);
	uint64_t last = 0;
	bool can_tell = sees_all();

	if (directory == NULL)
		return UINT64_MAX;
	for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
		struct name name = parse(entry->d_name);
		if (strncmp(entry->d_name, ROOT_PREFIX, sizeof ROOT_PREFIX - 1) == 0) {
			if (strcmp(entry->d_name, journal->root_name) != 0)
				nvc_lock_remove_unheld(journal->dir_fd, entry->d_name);
		} else if (name.pid == own->pid && name.started == own->started) {
			last = name.number > last ? name.number : last;
		} else if (name.pid != 0 && can_tell && is_gone(&name)) {
			(void)unlinkat(journal->dir_fd, entry->d_name, 0);
		}
	}
	return last;
}

/* Wait for a lock: false if it cannot be had. */
static bool take_lock(int dir_fd, const char *name, int *out)
{
	int left_ms = TIMEOUT_MS, result = NVC_LOCK_BUSY;
	struct nvc_error err;

	while (result == NVC_LOCK_BUSY)
		result = nvc_lock_take(dir_fd, name, &left_ms, out, &err);
	return result == 0 && *out >= 0;
}

static bool begin(int pid, const char *rootfs, struct journal *out)
{
	struct name own = {.pid = (uint64_t)pid};
	struct nvc_error err;
	uint64_t last;

	if (out->dir_fd < 0 || nvc_container_start_time(pid, &own.started, &err) < 0)
		return false;
	(void)snprintf(out->lock_name, sizeof out->lock_name, LOCK_PREFIX "%d.%" PRIu64, pid,
	               own.started);
	if (!take_lock(out->dir_fd, out->lock_name, &out->lock_fd))
		return false;
	if (!nvc_lock_name_root(pid, rootfs, out->root_name) ||
	    !take_lock(out->dir_fd, out->root_name, &out->root_fd))
		return false;
	last = prune(out, &own);
	if (last >= UINT32_MAX)
		return false;
	(void)snprintf(out->name, sizeof out->name, "%d.%" PRIu64 ".%" PRIu64, pid, own.started,
	               last + 1);
	out->fd = openat(out->dir_fd, out->name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
	                 0600);
	return out->fd >= 0;
}

/* A process that is in the container itself: nobody else can take back what it does. */
static bool begin_inside(const char *rootfs, struct journal *out)
{
	if (out->dir_fd < 0 || !nvc_lock_name_root(0, rootfs, out->root_name) ||
	    !take_lock(out->dir_fd, out->root_name, &out->root_fd))
		return false;
	out->fd = memfd_create("libnvc-journal", MFD_CLOEXEC);
	return out->fd >= 0;
}

bool journal_open(int pid, const char *rootfs, struct journal *out)
{
	*out = (struct journal){
	    .dir_fd = kept_run_directory(), .lock_fd = -1, .root_fd = -1, .fd = -1};
	if (pid == 0 ? begin_inside(rootfs, out) : begin(pid, rootfs, out))
		return true;
	journal_close(out, false);
	return false;
}

/* Whether journals of the container are there. */
static bool has_journals(const struct journal *journal)
{
	struct name own = parse(journal->lock_name);
	struct journal other = *journal;

	return prune(&other, &own) != 0;
}

void journal_close(struct journal *journal, bool is_applied)
{
	if (journal->fd >= 0 && journal->name[0] != '\0' && !is_applied)
		(void)unlinkat(journal->dir_fd, journal->name, 0);
	nvc_close_fd(&journal->fd);
	if (journal->root_fd >= 0)
		nvc_lock_release(journal->root_fd, journal->dir_fd, journal->root_name);
	if (journal->lock_fd >= 0)
		nvc_lock_release(journal->lock_fd, journal->dir_fd,
		                 is_applied || has_journals(journal) ? "" : journal->lock_name);
	nvc_close_fd(&journal->dir_fd);
}
