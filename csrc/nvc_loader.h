/* SPDX-License-Identifier: Apache-2.0 */
/* Have the container's loader find the libraries of a plan. glibc's finds them by its cache: every
 * look-up that it answered is answered as before, and the plan's libraries are added where their
 * directory stands in the search order of /etc/ld.so.conf. A cache that is missing, unreadable, or
 * older than the configuration or a directory is made anew, from what the directories hold; of the
 * old one stays what nothing else answers. musl's loader has a list of directories instead.
 * Privileges and fork class: as nvc_ops.h. */
#pragma once

#include <stdbool.h>

#include "nvc_cache.h"
#include "nvc_ldconf.h"
#include "nvc_libset.h"
#include "nvc_path.h"
#include "nvc_plan.h"

#define NVC_LOADER_ALIASES 64

struct nvc_loader {
	struct nvc_cache cache;
	struct nvc_libset set; /* what the cache will list */
	struct nvc_ldconf conf;
	bool is_musl;
	bool is_old; /* the cache is: the directories were looked through */

	/* Makes a link `soname` to `name` in a directory, or says false: for directories that keep
	 * their place. */
	bool (*link)(void *cookie, const char *directory, const char *soname, const char *name);
	void *cookie;

	/* Directories that entries of the cache name otherwise than the configuration does. */
	struct {
		const char *path;
		size_t len;
		uint32_t place;
	} aliases[NVC_LOADER_ALIASES];
	uint32_t alias_count;
};

#define nvc_loader_init {.cache = {.dir_fd = -1}, .set = nvc_libset_init}

/* Save what is there to the journal, and judge it; before the first mount point is made, which
 * makes its directory newer. */
int nvc_loader_prepare(const struct nvc_root *root, struct nvc_journal *journal,
                       struct nvc_loader *out, struct nvc_error *err);

/* Add the libraries of an operation; `*data` of `*len` bytes is the new file, NULL if the old one
 * will do. `*shadow` is a library of the image that is found instead of one of the plan, or NULL.
 */
int nvc_loader_add(const struct nvc_root *root, struct nvc_loader *loader,
                   const struct nvc_journal *journal, const struct nvc_plan *plan,
                   const struct nvc_op *op, const uint8_t **data, size_t *len, const char **shadow,
                   struct nvc_error *err);

void nvc_loader_close(struct nvc_loader *loader);

/* Make the cache anew, for good: ours went, and was changed by somebody before. */
int nvc_loader_rebuild(const struct nvc_root *root, struct nvc_error *err);
