/* SPDX-License-Identifier: Apache-2.0 */
/* Locks between processes of the host: flock(2) on files in a directory that only one user may
 * enter. Whoever inherits the descriptor holds the lock, too. Errors have no path: the directory's
 * is the caller's to know. Privileges: none. Fork class: any. */
#pragma once

#include <stdbool.h>

#include "nvc_error.h"

#define NVC_LOCK_NAME 64 /* bytes of the longest name made here */

#define NVC_LOCK_BUSY 1

/* Try to take the lock with this name; its file is made if missing. 0: `*out` holds it, or is -1
 * since others held it for all of `*left_ms`. NVC_LOCK_BUSY: others hold it; a moment has passed
 * and `*left_ms` is less: handle signals, then call this again. -1: no such file can be made. */
int nvc_lock_take(int dir_fd, const char *name, int *left_ms, int *out, struct nvc_error *err);

/* Give a lock back and close it; `name` is that of its file if that shall go, or "". */
void nvc_lock_release(int lock_fd, int dir_fd, const char *name);

/* Remove the file of a lock that nobody holds: its owner was killed. */
void nvc_lock_remove_unheld(int dir_fd, const char *name);

/* Name the lock for a root file system, by a process that sees it (0: the caller) and its path
 * there: whoever changes a container holds it, since other containers may have the same. False if
 * none is there.
 */
bool nvc_lock_name_root(int pid, const char *rootfs, char out[NVC_LOCK_NAME]);
