/* SPDX-License-Identifier: Apache-2.0 */
/* Change the mode of what an image has, by a descriptor of it. For hooks: the caller is in the
 * container's mount namespace, and its root is not ours yet. Privileges: CAP_FOWNER over the file.
 * Fork class: any. */
#pragma once

#include <stdint.h>

#include "nvc_error.h"

#define NVC_CHMOD_MAX 07777u

/* Give what a path leads to, inside a root (an absolute path), another mode. 1: changed, and `*was`
 * is the old one. 0: nothing is there, it has that mode, or it may not be changed. Fails with
 * NVC_EPATH, NVC_EINVAL, and NVC_ENAMESPACE where the root is the host's affair. */
int nvc_chmod(const char *root, const char *path, uint32_t mode, uint32_t *was,
              struct nvc_error *err);
