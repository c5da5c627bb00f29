/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_ns.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "nvc_cleanup.h"
#include "nvc_group.h"
#include "nvc_text.h"

#define INITIAL_USER_NS 0xEFFFFFFDu /* inode of /proc/PID/ns/user, fixed since 3.8 */

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

/* What id 0 of the process's user namespace is outside, from lines "inside outside count". */
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
	bool is_inside = out->user_fd >= 0 || is_own_namespace(proc_fd, "ns/user");
	bool has_root =
	    map_root(proc_fd, "uid_map", &out->uid) && map_root(proc_fd, "gid_map", &out->gid);
	struct stat st;

	if (has_root) {
		/* Its own map shows a namespace the ids of its parent. */
		out->uid = is_inside ? 0 : out->uid;
		out->gid = is_inside ? 0 : out->gid;
		return 0;
	}
	if (fstat(proc_fd, &st) < 0)
		return -1;
	out->uid = out->is_own ? geteuid() : st.st_uid;
	out->gid = out->is_own ? getegid() : st.st_gid;
	return 0;
}

static bool may_mount(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	return syscall(SYS_capget, &head, data) == 0 &&
	       (data[0].effective & (1u << CAP_SYS_ADMIN)) != 0;
}

int nvc_ns_open(int pid, struct nvc_container *out, struct nvc_error *err)
{
	char name[64] = "/proc/self";
	struct stat st;

	out->is_own = pid == 0;
	if (!out->is_own)
		(void)snprintf(name, sizeof name, "/proc/%d", pid);
	nvc_autofd int proc_fd = open(name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (proc_fd < 0 || fstat(proc_fd, &st) < 0)
		return nvc_fail_errno(err, NVC_ENAMESPACE, "stat", name);
	nvc_autofd int mnt_fd = openat(proc_fd, "ns/mnt", O_RDONLY | O_CLOEXEC);
	nvc_autofd int root_fd = openat(proc_fd, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (mnt_fd < 0 || root_fd < 0 || read_start_time(proc_fd, &out->start_time) < 0)
		return nvc_fail_errno(err, NVC_ENAMESPACE, "open", name);
	if (!out->is_own && is_own_namespace(proc_fd, "ns/mnt"))
		return nvc_fail(err, NVC_ENAMESPACE, "check", name,
		                "the process shares the caller's mount namespace: it is not a "
		                "container");
	nvc_autofd int user_fd = -1;
	if (!may_mount() && !is_own_namespace(proc_fd, "ns/user")) {
		user_fd = openat(proc_fd, "ns/user", O_RDONLY | O_CLOEXEC);
		if (user_fd < 0)
			return nvc_fail_errno(err, NVC_ENAMESPACE, "open", name);
	}
	out->user_fd = user_fd;
	if (find_owner(proc_fd, out) < 0) {
		out->user_fd = -1;
		return nvc_fail_errno(err, NVC_ENAMESPACE, "open", name);
	}
	(void)nvc_steal_fd(&user_fd);
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
	nvc_close_fd(&container->user_fd);
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

/* Become root of the user namespace, which need not be who we are in it. */
static int enter_user(const struct nvc_container *container, struct nvc_error *err)
{
	uid_t uid = container->uid;
	gid_t gid = container->gid;

	if (setns(container->user_fd, CLONE_NEWUSER) < 0)
		return nvc_fail_errno(err, NVC_ENAMESPACE, "namespace association",
		                      "user namespace of the container");
	if (syscall(SYS_setresgid, gid, gid, gid) < 0 || syscall(SYS_setresuid, uid, uid, uid) < 0)
		return nvc_fail_errno(err, NVC_ENAMESPACE, "privilege change",
		                      "owner of the container");
	return 0;
}

int nvc_ns_enter(const struct nvc_container *container, struct nvc_error *err)
{
	if (container->user_fd >= 0 && enter_user(container, err) < 0)
		return -1;
	if (setns(container->mnt_fd, CLONE_NEWNS) < 0)
		return nvc_fail_errno(err, NVC_ENAMESPACE, "namespace association",
		                      "mount namespace of the container");
	/* Entering a mount namespace, also our own, takes us to its root. */
	if (container->is_own && (fchdir(container->root_fd) < 0 || chroot(".") < 0))
		return nvc_fail_errno(err, NVC_ENAMESPACE, "chroot", "/");
	if (become_owner(container) < 0)
		return nvc_fail_errno(err, NVC_ENAMESPACE, "privilege change",
		                      "owner of the container");
	return 0;
}

/* Number of the mount that a descriptor is in; statx tells since 5.8 only. */
static int read_mount_id(int fd, int fds_fd, uint64_t *out)
{
	static const char key[] = "mnt_id:\t";
	char name[32] = "../fdinfo/", digits[16], text[256];

	nvc_copy(name + strlen(name), sizeof name - strlen(name),
	         nvc_digits(digits + sizeof digits, (unsigned)fd, 10));
	nvc_autofd int info_fd = openat(fds_fd, name, O_RDONLY | O_CLOEXEC);
	ssize_t len = info_fd < 0 ? -1 : read(info_fd, text, sizeof text - 1);
	if (len < 0)
		return -1;
	text[len] = '\0';
	const char *at = strstr(text, key);
	if (at == NULL) {
		errno = EINVAL;
		return -1;
	}
	*out = strtoull(at + sizeof key - 1, NULL, 10);
	return 0;
}

int nvc_ns_refuse_host(int dir_fd, int fds_fd, struct nvc_error *err)
{
	struct nvc_groups table = {.table_fd = -1};
	struct stat user;
	uint64_t id;
	bool found;

	if (fstatat(fds_fd, "../ns/user", &user, 0) == 0 && user.st_ino != INITIAL_USER_NS)
		return 0;
	nvc_autofd int table_fd = openat(fds_fd, "../../1/mountinfo", O_RDONLY | O_CLOEXEC);
	table.table_fd = table_fd;
	if (table_fd < 0 || read_mount_id(dir_fd, fds_fd, &id) < 0 ||
	    nvc_groups_has(&table, id, &found) < 0)
		return nvc_fail_errno(err, NVC_ENAMESPACE,
		                      "telling the host's mount namespace from the container's",
		                      "/proc/1/mountinfo");
	if (!found)
		return 0;
	return nvc_fail(err, NVC_ENAMESPACE, "check", NULL,
	                "the caller is in the host's mount namespace: name a process of the "
	                "container by its pid, or call this inside the container's namespaces");
}
