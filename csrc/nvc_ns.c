/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_ns.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/securebits.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "nvc_cleanup.h"

/* Field 22 of /proc/<pid>/stat; the name in field 2 may hold spaces and parentheses. */
static int read_start_time(int proc_fd, uint64_t *out)
{
	char text[1024];
	nvc_autofd int fd = openat(proc_fd, "stat", O_RDONLY | O_CLOEXEC);
	ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

	if (len < 0)
		return -1;
	text[len] = '\0';
	const char *at = strrchr(text, ')');
	for (int field = 2; at != NULL && field < 22; field++)
		at = strchr(at + 1, ' ');
	if (at == NULL) {
		errno = EINVAL;
		return -1;
	}
	*out = strtoull(at + 1, NULL, 10);
	return 0;
}

static bool is_own_namespace(int proc_fd, const char *name)
{
	char path[32];
	struct stat own, other;

	(void)snprintf(path, sizeof path, "/proc/self/%s", name);
	return stat(path, &own) == 0 && fstatat(proc_fd, name, &other, 0) == 0 &&
	       own.st_dev == other.st_dev && own.st_ino == other.st_ino;
}

/* What id 0 of the process's user namespace is for us, from lines "inside outside count". */
static bool map_root(int proc_fd, const char *name, uint32_t *out)
{
	char text[4096], *at = text;
	nvc_autofd int fd = openat(proc_fd, name, O_RDONLY | O_CLOEXEC);
	ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

	if (len < 0)
		return false;
	for (text[len] = '\0'; *at != '\0';) {
		unsigned long inside = strtoul(at, &at, 10), outside = strtoul(at, &at, 10);
		if (inside == 0 && outside < UINT32_MAX) {
			*out = (uint32_t)outside;
			return true;
		}
		at += strcspn(at, "\n");
		at += *at == '\n';
	}
	return false;
}

/* Who owns what is made in the container: its root, whoever the process runs as. */
static int find_owner(int proc_fd, struct nvc_container *out)
{
	struct stat st;

	out->uid = 0;
	out->gid = 0;
	/* Its own map shows a namespace the ids of its parent. */
	if (is_own_namespace(proc_fd, "ns/user") ||
	    (map_root(proc_fd, "uid_map", &out->uid) && map_root(proc_fd, "gid_map", &out->gid)))
		return 0;
	if (fstat(proc_fd, &st) < 0)
		return -1;
	out->uid = st.st_uid;
	out->gid = st.st_gid;
	return 0;
}

int nvc_ns_open(int pid, struct nvc_container *out, struct nvc_error *err)
{
	char name[64];
	struct stat st;

	(void)snprintf(name, sizeof name, "/proc/%d", pid);
	nvc_autofd int proc_fd = open(name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (pid <= 0 || proc_fd < 0 || fstat(proc_fd, &st) < 0)
		return nvc_fail_errno(err, NVC_ENAMESPACE, "stat", name);
	nvc_autofd int mnt_fd = openat(proc_fd, "ns/mnt", O_RDONLY | O_CLOEXEC);
	nvc_autofd int root_fd = openat(proc_fd, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (mnt_fd < 0 || root_fd < 0 || read_start_time(proc_fd, &out->start_time) < 0 ||
	    find_owner(proc_fd, out) < 0)
		return nvc_fail_errno(err, NVC_ENAMESPACE, "open", name);
	if (is_own_namespace(proc_fd, "ns/mnt"))
		return nvc_fail(err, NVC_ENAMESPACE, "check", name,
		                "the process shares the caller's mount namespace: it is not a "
		                "container");
	out->proc_fd = nvc_steal_fd(&proc_fd);
	out->mnt_fd = nvc_steal_fd(&mnt_fd);
	out->root_fd = nvc_steal_fd(&root_fd);
	return 0;
}

void nvc_ns_close(struct nvc_container *container)
{
	nvc_close_fd(&container->proc_fd);
	nvc_close_fd(&container->mnt_fd);
	nvc_close_fd(&container->root_fd);
}

/* Make files as somebody else, not for somebody else: a name that was just made may be another's
 * by the time it is given away. */
static int become_owner(const struct nvc_container *container)
{
	if (container->uid == 0 && container->gid == 0)
		return 0;
	if (prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP) < 0)
		return -1;
	(void)setfsgid(container->gid);
	(void)setfsuid(container->uid);
	if ((uid_t)setfsuid((uid_t)-1) == container->uid &&
	    (gid_t)setfsgid((gid_t)-1) == container->gid)
		return 0;
	errno = EPERM;
	return -1;
}

int nvc_ns_enter(const struct nvc_container *container, struct nvc_error *err)
{
	if (setns(container->mnt_fd, CLONE_NEWNS) < 0)
		return nvc_fail_errno(err, NVC_ENAMESPACE, "namespace association",
		                      "mount namespace of the container");
	if (become_owner(container) < 0)
		return nvc_fail_errno(err, NVC_ENAMESPACE, "privilege change",
		                      "owner of the container");
	return 0;
}
