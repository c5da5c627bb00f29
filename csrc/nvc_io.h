/* SPDX-License-Identifier: Apache-2.0 */
/* Read and write whole buffers. Fork class: any. */
#pragma once

#include <errno.h>
#include <stddef.h>
#include <sys/types.h>
#include <unistd.h>

/* Read up to `size` bytes; fewer at the end of the file. Returns how many, or -1 with errno. */
static inline ssize_t nvc_read_all(int fd, void *buf, size_t size)
{
	size_t len = 0;

	while (len < size) {
		ssize_t got = read(fd, (char *)buf + len, size - len);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -1 : (ssize_t)len;
		len += (size_t)got;
	}
	return (ssize_t)len;
}

/* Write all bytes. 0, or -1 with errno. */
static inline int nvc_write_all(int fd, const void *buf, size_t len)
{
	for (size_t at = 0; at < len;) {
		ssize_t put = write(fd, (const char *)buf + at, len - at);
		if (put < 0 && errno != EINTR)
			return -1;
		at += put > 0 ? (size_t)put : 0;
	}
	return 0;
}
