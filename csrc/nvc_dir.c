/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_dir.h"

#include <fcntl.h>
#include <string.h>

#include "nvc_cleanup.h"
#include "nvc_syscalls.h"

#define BUFFER_SIZE 32768u

/* As the kernel has it: struct linux_dirent64. */
struct entry {
	uint64_t ino;
	int64_t off;
	uint16_t len;
	uint8_t type;
	char name[];
};

int nvc_dir_list(int dir_fd, nvc_dir_fn *each, void *cookie)
{
	_Alignas(struct entry) char buffer[BUFFER_SIZE];
	nvc_autofd int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	long len;

	if (fd < 0)
		return -1;
	while ((len = syscall(SYS_getdents64, fd, buffer, sizeof buffer)) > 0) {
		const struct entry *entry;
		for (long at = 0; at < len; at += entry->len) {
			entry = (const struct entry *)(const void *)(buffer + at);
			if (strcmp(entry->name, ".") == 0 || strcmp(entry->name, "..") == 0)
				continue;
			int result = each(cookie, entry->name, entry->type);
			if (result != 0)
				return result;
		}
	}
	return len < 0 ? -1 : 0;
}
