/* SPDX-License-Identifier: Apache-2.0 */
/* List a directory without the allocations of readdir. Privileges: read permission. Fork class:
 * child safe. */
#pragma once

#include <dirent.h>

/* Called for each name but "." and ".."; `type` is DT_REG, DT_LNK, … or DT_UNKNOWN. A result other
 * than 0 ends the listing. */
typedef int nvc_dir_fn(void *cookie, const char *name, unsigned char type);

/* List what an O_PATH directory holds, in no order. Returns 0, the result that ended it, or -1
 * with errno. */
int nvc_dir_list(int dir_fd, nvc_dir_fn *each, void *cookie);
