/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_job.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <unistd.h>

#include "nvc_cleanup.h"
#include "nvc_undo.h"

/* Resolve the container's root in its namespace, as the caller named it. */
static int open_rootfs(const struct nvc_job *job, struct nvc_root *out, struct nvc_error *err)
{
	const char *rootfs = job->journal.file->rootfs;
	struct nvc_root host = {job->container.root_fd, "/", job->kernel.openat2, -1};
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

static bool is_journal_root(const struct nvc_job *job, int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && st.st_dev == job->journal.file->root_dev &&
	       st.st_ino == job->journal.file->root_ino;
}

/* Find the root that the journal is about: the process may have pivoted to it since. */
static int find_rootfs(const struct nvc_job *job, struct nvc_root *out, struct nvc_error *err)
{
	out->openat2 = job->kernel.openat2;
	out->name = "/";
	out->fd = job->container.root_fd;
	if (is_journal_root(job, out->fd))
		return 0;
	/* The process may also have changed its root on its own; the namespace's stays. */
	out->fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (is_journal_root(job, out->fd))
		return 0;
	if (open_rootfs(job, out, err) < 0)
		return -1;
	if (is_journal_root(job, out->fd))
		return 0;
	return nvc_fail(err, NVC_ENAMESPACE, "check", out->name,
	                "no longer the directory that was changed");
}

static struct nvc_undo undo_job(struct nvc_job *job, const struct nvc_root *root)
{
	return (struct nvc_undo){
	    .journal = &job->journal, .root = root, .cgroup = &job->cgroup, .groups = &job->groups};
}

/* Undo everything. A worker whose parent is gone also removes the journal, once it is empty. */
static int undo_in(struct nvc_job *job, const struct nvc_root *root)
{
	struct nvc_undo undo = undo_job(job, root);
	int result = nvc_undo_all(&undo, &job->outcome->left);

	if (result == 0) /* also what another worker, dead now, could not undo */
		job->outcome->left.code = NVC_OK;
	job->outcome->undone = 1;
	if (result == 0 && job->file.dir_fd >= 0 && getppid() != job->parent)
		(void)unlinkat(job->file.dir_fd, job->file.name, 0);
	return result;
}

/* Enter the container, holding on to the host's view of our own descriptors. Returns that. */
static int enter(struct nvc_job *job, int fds_fd, struct nvc_error *err)
{
	if (nvc_ns_enter(&job->container, err) < 0)
		return -1;
	if (nvc_groups_enter(&job->groups, fds_fd) < 0)
		return nvc_fail_errno(err, NVC_ENAMESPACE, "open", "/proc/self/mountinfo");
	return 0;
}

static int open_fds(struct nvc_error *err)
{
	int fd = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? nvc_fail_errno(err, NVC_ENAMESPACE, "open", "/proc/self/fd") : fd;
}

static bool has_mounts(const struct nvc_plan *plan)
{
	return nvc_plan_has(plan, NVC_OP_BIND_MOUNT) || nvc_plan_has(plan, NVC_OP_TMPFS) ||
	       nvc_plan_has(plan, NVC_OP_DEVICE_NODE);
}

/* mount(2) takes its sources from what the container sees: that must still be the host's tree,
 * never the image's. */
static int check_way(const struct nvc_job *job, const struct nvc_mounter *mounter,
                     struct nvc_error *err)
{
	struct stat st;

	if (mounter->way != NVC_MOUNTS_CLASSIC || !has_mounts(&job->plan) ||
	    (job->journal.file->rootfs[0] != '\0' && stat("/", &st) == 0 &&
	     st.st_dev == job->host_root.st_dev && st.st_ino == job->host_root.st_ino))
		return 0;
	if (job->container.user_fd >= 0)
		return nvc_fail(err, NVC_ENAMESPACE, "check", NULL,
		                "a container that has already changed its root: needs "
		                "CAP_SYS_ADMIN of the host, not only of the container");
	return nvc_fail(err, NVC_EKERNEL, job->kernel.open_tree ? "move_mount" : "open_tree", NULL,
	                "a container that has already changed its root needs kernel 5.2 or newer");
}

/* Whatever named it, the root of the host is no container's. */
static int check_root(const struct nvc_job *job, const struct nvc_root *root, const struct stat *st,
                      struct nvc_error *err)
{
	if (st->st_dev == job->host_root.st_dev && st->st_ino == job->host_root.st_ino)
		return nvc_fail(err, NVC_ENAMESPACE, "check", NULL,
		                "the process's root is the host's: it is no container, or one that "
		                "has not changed its root yet and whose rootfs must be named");
	return job->container.is_own ? nvc_ns_refuse_host(root->fd, root->fds_fd, err) : 0;
}

static int apply_all(struct nvc_job *job, struct nvc_ops *ops, struct nvc_error *err)
{
	struct nvc_journal_file *file = job->journal.file;
	struct nvc_mounter mounter;
	struct stat st;

	ops->mounter = &mounter;
	ops->root.fds_fd = open_fds(err);
	if (ops->root.fds_fd < 0 ||
	    nvc_mounter_open(&job->kernel, ops->root.fds_fd, &mounter, err) < 0 ||
	    nvc_ops_prepare(ops, err) < 0 || enter(job, ops->root.fds_fd, err) < 0 ||
	    open_rootfs(job, &ops->root, err) < 0)
		return -1;
	if (fstat(ops->root.fd, &st) < 0)
		return nvc_fail_errno(err, NVC_ENAMESPACE, "stat", ops->root.name);
	if (check_root(job, &ops->root, &st, err) < 0 || check_way(job, &mounter, err) < 0)
		return -1;
	file->root_dev = st.st_dev;
	file->root_ino = st.st_ino;
	return nvc_ops_run(ops, err);
}

int nvc_job_apply(void *cookie)
{
	struct nvc_job *job = cookie;
	struct nvc_outcome *outcome = job->outcome;
	struct nvc_ops ops = {.plan = &job->plan,
	                      .groups = &job->groups,
	                      .loose = job->loose,
	                      .journal = &job->journal,
	                      .root = {.fd = -1},
	                      .cgroup = &job->cgroup,
	                      .stop = {&outcome->stop, job->parent},
	                      .program = {job->program_fd, job->timeout_ms / 2},
	                      .uid = job->container.uid,
	                      .gid = job->container.gid,
	                      .current = &outcome->current,
	                      .warnings = outcome->warnings};

	outcome->current = NVC_OPS_NONE;
	if (apply_all(job, &ops, &outcome->err) == 0)
		return 0;
	(void)undo_in(job, &ops.root);
	return -1;
}

int nvc_job_undo(void *cookie)
{
	struct nvc_job *job = cookie;
	struct nvc_error *left = &job->outcome->left;
	struct nvc_root root;
	struct nvc_undo rules = undo_job(job, &root);
	int fds_fd = open_fds(left);

	/* First what needs nothing of the container, and matters most. */
	(void)nvc_undo_rules(&rules, left);
	if (fds_fd < 0 || enter(job, fds_fd, left) < 0 || find_rootfs(job, &root, left) < 0)
		return -1;
	root.fds_fd = fds_fd;
	return undo_in(job, &root);
}
