/* SPDX-License-Identifier: Apache-2.0 */
/* What another process waits for in the kernel: the file that it opens, or the device that it
 * talks to. For messages only: what is read is the other process's word, and may be missing.
 *
 * Privileges: those to trace the process (PTRACE_MODE_ATTACH); without them nothing is found. Fork
 * class: parent only. Never waits for that process. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

/* Write the path of that file to `out`, as seen from outside of `root`, the process's root
 * directory ("" or "/": ours); "" if it is not known. */
void nvc_blocked_path(pid_t pid, const char *root, char *out, size_t size);
