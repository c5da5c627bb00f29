/* SPDX-License-Identifier: Apache-2.0 */
/* The steps that operations consist of, each in the journal before it is taken: finding the place,
 * making directories, mount points, links, mounts. Fork class and privileges: as nvc_ops.h. */
#pragma once

#include "nvc_ops.h"

/* One operation at work: where its object goes. */
struct nvc_task {
	const struct nvc_op *op;
	int index;
	const char *name;    /* last component of the operation's path */
	char path[PATH_MAX]; /* the place, from the root, free of links before the name */
};

static inline const char *nvc_task_text(const struct nvc_ops *ops, uint32_t offset)
{
	return nvc_plan_text(ops->plan, offset);
}

/* Fail with errno, naming a path of the container. */
int nvc_step_fail(const struct nvc_ops *ops, const char *step, const char *path,
                  struct nvc_error *err);

/* Put `ops->dir` on the directory of the operation's path, making it where it is missing, and spell
 * the place. Neighbours in a plan mostly share it. */
int nvc_step_go(struct nvc_ops *ops, struct nvc_task *task, struct nvc_error *err);

struct nvc_record *nvc_step_begin(struct nvc_ops *ops, enum nvc_step step, const char *path,
                                  const char *arg, const char *old, struct nvc_error *err);

/* Note the identity of what a step made at `name` in a directory; "" is the descriptor itself. */
int nvc_step_complete(struct nvc_record *record, int fd, const char *name);

/* The step failed with errno. If that says that somebody else's object is there, the journal does
 * not take it for ours. */
int nvc_step_failed(const struct nvc_ops *ops, struct nvc_record *record, const char *path,
                    struct nvc_error *err);

int nvc_step_mkdir(struct nvc_ops *ops, int dir_fd, const char *name, const char *path, mode_t mode,
                   struct nvc_error *err);

/* A nvc_mkdir_fn whose cookie is the struct nvc_ops. */
int nvc_step_make_parent(void *cookie, int dir_fd, const char *name, const char *path,
                         struct nvc_error *err);

/* Open what is at the place for mounting over, without following a link (a mount covers the link
 * itself); make an empty mount point where nothing is. The descriptor in `out` is the caller's; the
 * rest of it points into the task and to `ops->dir`. */
int nvc_step_mount_point(struct nvc_ops *ops, const struct nvc_task *task, mode_t source_mode,
                         struct nvc_mount_point *out, struct nvc_error *err);

/* Attach a mount; `id` is what it is known by afterwards. */
int nvc_step_attach(struct nvc_ops *ops, const struct nvc_loose_mount *mount,
                    const struct nvc_mount_point *at, struct nvc_mount_id *id,
                    struct nvc_error *err);
