/* SPDX-License-Identifier: Apache-2.0 */
/* Look through a directory of the container for libraries, as ldconfig does without making links:
 * of the files with one SONAME the one with the highest version counts. Files that cannot be read,
 * or are no libraries for this machine, are left out. Privileges: read permission. Fork class:
 * child safe. */
#pragma once

#include "nvc_ldconf.h"
#include "nvc_libset.h"
#include "nvc_path.h"

/* Add the libraries of a directory to the set, with its rank and place. -1 with errno ENOMEM. */
int nvc_ldscan(const struct nvc_root *root, const struct nvc_lddir *directory, uint32_t rank,
               uint32_t place, struct nvc_libset *set);

/* The flags in the cache of libraries for this machine, of 64 or 32 bits. */
uint32_t nvc_ldscan_flags(uint32_t bits);
