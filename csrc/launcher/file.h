/* SPDX-License-Identifier: Apache-2.0 */
/* Read whole files that somebody else may have put there. Privileges: none. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

struct file {
	char *data; /* `len` bytes and a NUL; aligned for anything */
	size_t len;
	struct stat st;
};

/* Read a regular file of at most `limit` bytes; never blocks. `more`: flags of open(2). -1 with
 * errno: EINVAL for anything but a regular file, EFBIG for a larger one. */
int file_read(int dir_fd, const char *path, int more, size_t limit, struct file *out);

/* Read a stream to its end in the same way. Of a larger one its beginning is there, `limit` and one
 * bytes. */
int file_read_stream(int fd, size_t limit, struct file *out);

void file_free(struct file *file);

/* Whether nobody but root and ourselves can have written this. */
bool file_is_private(const struct stat *st);

#define auto_file __attribute__((cleanup(file_free)))
