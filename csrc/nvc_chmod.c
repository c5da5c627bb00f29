/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_chmod.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "nvc_cleanup.h"
#include "nvc_ns.h"
#include "nvc_path.h"
#include "nvc_text.h"

static int change(const struct nvc_root *root, const char *path, mode_t mode, uint32_t *was,
                  struct nvc_error *err)
{
	struct nvc_walk how = {.follow = true};
	struct nvc_place place;
	struct stat st;
	char name[16];

	if (nvc_path_walk(root, path, &how, &place, err) < 0)
		return -1;
	nvc_autofd int fd = place.fd;
	if (fd < 0)
		return 0;
	if (fstat(fd, &st) < 0)
		return nvc_fail_errno_at(err, NVC_EPATH, "stat", root->name, path);
	*was = st.st_mode & NVC_CHMOD_MAX;
	if (*was == mode)
		return 0;
	/* A descriptor that is for its place only is changed by its name in procfs. */
	if (fchmodat(root->fds_fd, nvc_digits(name + sizeof name, (unsigned)fd, 10), mode, 0) == 0)
		return 1;
	if (errno == EPERM || errno == EACCES || errno == EROFS)
		return 0;
	return nvc_fail_errno_at(err, NVC_EPATH, "chmod", root->name, path);
}

int nvc_chmod(const char *root, const char *path, uint32_t mode, uint32_t *was,
              struct nvc_error *err)
{
	nvc_autofd int fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	nvc_autofd int fds_fd = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct nvc_root at = {.fd = fd, .name = root, .openat2 = true, .fds_fd = fds_fd};

	if (mode > NVC_CHMOD_MAX || path[0] != '/')
		return nvc_fail(err, NVC_EINVAL, "check", path, "not a path and a mode");
	if (fd < 0)
		return nvc_fail_errno(err, NVC_ENAMESPACE, "open", root);
	if (fds_fd < 0)
		return nvc_fail_errno(err, NVC_ENAMESPACE, "open", "/proc/self/fd");
	if (nvc_ns_refuse_host(fd, fds_fd, err) < 0)
		return -1;
	return change(&at, path, mode, was, err);
}
