/* SPDX-License-Identifier: Apache-2.0 */
/* Mounts on kernels that lack the new calls. mount(2) wants paths: those are the names of our
 * descriptors in the host's procfs, which is the working directory meanwhile, so that nothing is
 * looked up twice and the container's own /proc plays no part. Privileges and fork class: as
 * nvc_mount.h, the only user. */
#pragma once

#include "nvc_mount.h"

/* Leave the host's mount namespace for a private copy, where mounts can be prepared out of sight.
 */
int nvc_classic_hide(struct nvc_error *err);

/* Open a host path in which no component is a link. Returns -1 with errno. */
int nvc_classic_open_source(const char *path);

/* Prepare a detached mount of a source, with its flags, in the private copy. */
int nvc_classic_stage(const struct nvc_mounter *mounter, int source_fd, struct nvc_loose_mount *out,
                      struct nvc_error *err);
int nvc_classic_stage_tmpfs(const struct nvc_mounter *mounter, struct nvc_loose_mount *out,
                            struct nvc_error *err);

/* Mount, set the flags, make private: what nvc_mount_attach does in one step. */
int nvc_classic_attach(const struct nvc_mounter *mounter, const struct nvc_loose_mount *mount,
                       const struct nvc_mount_point *at, struct nvc_mount_id *id,
                       struct nvc_error *err);

/* Returns -1 with errno. */
int nvc_classic_make_private(const struct nvc_mounter *mounter, int mount_fd);
