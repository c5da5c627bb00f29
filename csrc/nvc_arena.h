/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that only grows, for a child that must not call malloc: its parent may have forked while
 * another thread held malloc's locks. Address space is reserved at once, memory is taken as it is
 * touched; all of it is given back at once, or with the process. Privileges: none. Fork class:
 * child safe. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct nvc_arena {
	uint8_t *base;
	size_t used, size;
};

/* Reserve `size` bytes. -1 with errno. */
int nvc_arena_open(struct nvc_arena *out, size_t size);

void nvc_arena_close(struct nvc_arena *arena);

/* Take `size` bytes of any content, aligned to 8. NULL with errno ENOMEM when so much is not left.
 */
void *nvc_arena_take(struct nvc_arena *arena, size_t size);

/* Copy `len` bytes and end them by NUL. NULL as above. */
char *nvc_arena_copy(struct nvc_arena *arena, const char *text, size_t len);

/* Join a directory and a name by a slash. NULL as above. */
char *nvc_arena_join(struct nvc_arena *arena, const char *directory, const char *name);
