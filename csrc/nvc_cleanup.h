/* SPDX-License-Identifier: Apache-2.0 */
/* Scope-bound ownership. Every owning variable is initialised where it is declared; ownership
 * leaves only through nvc_steal_fd / nvc_steal_ptr. The closers keep errno, so that a function
 * can fail with the errno of the call that failed. Fork class: any (nvc_autofree, nvc_autofile,
 * nvc_autodir: parent only). */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void nvc_close_fd(int *fd)
{
	if (*fd >= 0) {
		int saved = errno;
		(void)close(*fd);
		errno = saved;
		*fd = -EBADF;
	}
}

static inline void nvc_free_ptr(void *ptr)
{
	void **p = ptr;
	int saved = errno;
	free(*p);
	errno = saved;
	*p = NULL;
}

static inline void nvc_close_file(FILE **file)
{
	if (*file != NULL) {
		int saved = errno;
		(void)fclose(*file);
		errno = saved;
		*file = NULL;
	}
}

static inline void nvc_close_dir(DIR **dir)
{
	if (*dir != NULL) {
		int saved = errno;
		(void)closedir(*dir);
		errno = saved;
		*dir = NULL;
	}
}

static inline int nvc_steal_fd(int *fd)
{
	int out = *fd;
	*fd = -EBADF;
	return out;
}

static inline void *nvc_steal_ptr_(void *ptr)
{
	void **p = ptr;
	void *out = *p;
	*p = NULL;
	return out;
}
#define nvc_steal_ptr(p) ((__typeof__(*(p)))nvc_steal_ptr_(p))

#define nvc_autofd   __attribute__((cleanup(nvc_close_fd)))
#define nvc_autofree __attribute__((cleanup(nvc_free_ptr)))
#define nvc_autofile __attribute__((cleanup(nvc_close_file)))
#define nvc_autodir  __attribute__((cleanup(nvc_close_dir)))
