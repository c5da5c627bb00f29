/* SPDX-License-Identifier: Apache-2.0 */
/* The journal of what is applied to a container, and the locks that go with it: as
 * libnvc/_apply/journal.py has them, which reads what is written here. Privileges: root. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "nvc_lock.h"

struct journal {
	int dir_fd;                    /* of /run/libnvc */
	int lock_fd, root_fd;          /* the container's lock, and its root file system's */
	int fd;                        /* the journal */
	char lock_name[NVC_LOCK_NAME]; /* names in the directory; "" for none */
	char root_name[NVC_LOCK_NAME];
	char name[NVC_LOCK_NAME];
};

/* Lock the container that a process is in (0: ourselves; then its root alone), and begin an empty
 * journal; others' of processes that are gone are removed on the way. False, and nothing is left,
 * where anything is in the way. */
bool journal_open(int pid, const char *rootfs, struct journal *out);

/* Give the locks back. The journal stays if something was applied, else it goes. */
void journal_close(struct journal *journal, bool is_applied);
