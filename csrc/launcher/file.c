/* SPDX-License-Identifier: Apache-2.0 */
#include "file.h"

#include <errno.h>
#include <fcntl.h>

#include "nvc_cleanup.h"
#include "nvc_io.h"

int file_read_stream(int fd, size_t limit, struct file *out)
{
	nvc_autofree char *data = malloc(limit + 2);
	/* A byte more: so larger ones show. */
	ssize_t len = data == NULL ? -1 : nvc_read_all(fd, data, limit + 1);

	if (len < 0)
		return -1;
	data[len] = '\0';
	out->len = (size_t)len;
	out->data = nvc_steal_ptr(&data);
	errno = EFBIG;
	return out->len <= limit ? 0 : -1;
}

int file_read(int dir_fd, const char *path, int more, size_t limit, struct file *out)
{
	/* A FIFO would block, a terminal would become ours. */
	int flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | more;
	nvc_autofd int fd = openat(dir_fd, path, flags);

	if (fd < 0 || fstat(fd, &out->st) < 0)
		return -1;
	if (!S_ISREG(out->st.st_mode)) {
		errno = EINVAL;
		return -1;
	}
	if ((unsigned long long)out->st.st_size > limit) {
		errno = EFBIG;
		return -1;
	}
	return file_read_stream(fd, (size_t)out->st.st_size, out);
}

void file_free(struct file *file)
{
	nvc_free_ptr(&file->data);
}

bool file_is_private(const struct stat *st)
{
	return (st->st_uid == 0 || st->st_uid == geteuid()) && (st->st_mode & 022) == 0;
}
