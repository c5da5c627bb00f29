/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_error.h"

#include <errno.h>
#include <string.h>

void nvc_copy(char *dst, size_t size, const char *src)
{
	size_t len = strnlen(src, size - 1);

	memcpy(dst, src, len);
	dst[len] = '\0';
}

static int set(struct nvc_error *err, enum nvc_code code, int sys_errno, const char *step,
               const char *path, const char *msg)
{
	err->code = (int)code;
	err->sys_errno = sys_errno;
	err->op_index = -1;
	nvc_copy(err->step, sizeof err->step, step);
	err->path[0] = '\0';
	err->msg[0] = '\0';
	if (path != NULL) {
		/* The end of a path says more than its beginning. */
		size_t len = strlen(path);
		nvc_copy(err->path, sizeof err->path,
		         len < sizeof err->path ? path : path + (len - sizeof err->path + 1));
	}
	if (msg != NULL)
		nvc_copy(err->msg, sizeof err->msg, msg);
	return -1;
}

int nvc_fail(struct nvc_error *err, enum nvc_code code, const char *step, const char *path,
             const char *msg)
{
	return set(err, code, 0, step, path, msg);
}

int nvc_fail_errno(struct nvc_error *err, enum nvc_code code, const char *step, const char *path)
{
	int sys_errno = errno;

	return set(err, code, sys_errno, step, path, NULL);
}

int nvc_fail_errno_at(struct nvc_error *err, enum nvc_code code, const char *step, const char *root,
                      const char *path)
{
	int sys_errno = errno;
	size_t used = strcmp(root, "/") == 0 ? 0 : strlen(root);

	(void)set(err, code, sys_errno, step, path, NULL);
	/* Joined from the right: where both do not fit, the path inside matters more. */
	if (used != 0) {
		size_t len = strlen(err->path);
		size_t room = sizeof err->path - 1 - len;
		size_t take = used < room ? used : room;
		memmove(err->path + take, err->path, len + 1);
		memcpy(err->path, root + (used - take), take);
	}
	return -1;
}
