/* SPDX-License-Identifier: Apache-2.0 */
/* Give a container what is kept for those like it, which Python found and applied before.
 * Privileges: root. */
#pragma once

#include "kept.h"

/* A container that still shows the host's files. */
struct container {
	int pid;             /* a process of it; 0: this one, in its mount namespace */
	const char *rootfs;  /* in its mount namespace */
	char seen[PATH_MAX]; /* the same by way of its process */
};

/* Find the root of a container as inspect_container does; pid and rootfs are known. False where it
 * is not plainly there. */
bool container_find(struct container *container);

/* Apply what is kept: the words of a program that updates the loader cache, and a plan, or nothing
 * where there is nothing to do; `who` warns. False if Python must do it: nothing has been changed
 * then. */
bool give_kept(const struct container *container, struct nvc_json result, const char *who);
