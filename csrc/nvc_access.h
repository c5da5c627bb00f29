/* SPDX-License-Identifier: Apache-2.0 */
/* The operation that allows devices in the container's cgroups, of whichever version. What the
 * engine allowed already is left alone, so that undoing does not take it away. Fork class and
 * privileges: as nvc_devlist.h and nvc_devprog.h. */
#pragma once

#include "nvc_ops.h"

int nvc_access_allow(struct nvc_ops *ops, const struct nvc_op *op, struct nvc_error *err);
