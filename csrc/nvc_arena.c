/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_arena.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

int nvc_arena_open(struct nvc_arena *out, size_t size)
{
	void *base = mmap(NULL, size, PROT_READ | PROT_WRITE,
	                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (base == MAP_FAILED)
		return -1;
	*out = (struct nvc_arena){.base = base, .size = size};
	return 0;
}

void nvc_arena_close(struct nvc_arena *arena)
{
	if (arena->base != NULL)
		(void)munmap(arena->base, arena->size);
	arena->base = NULL;
}

void *nvc_arena_take(struct nvc_arena *arena, size_t size)
{
	size_t rounded = (size + 7) & ~(size_t)7;
	uint8_t *out = arena->base + arena->used;

	if (rounded < size || rounded > arena->size - arena->used) {
		errno = ENOMEM;
		return NULL;
	}
	arena->used += rounded;
	return out;
}

char *nvc_arena_copy(struct nvc_arena *arena, const char *text, size_t len)
{
	char *out = nvc_arena_take(arena, len + 1);

	if (out == NULL)
		return NULL;
	memcpy(out, text, len);
	out[len] = '\0';
	return out;
}

char *nvc_arena_join(struct nvc_arena *arena, const char *directory, const char *name)
{
	size_t directory_len = strlen(directory), name_len = strlen(name);
	char *out = nvc_arena_take(arena, directory_len + 1 + name_len + 1);

	if (out == NULL)
		return NULL;
	memcpy(out, directory, directory_len);
	out[directory_len] = '/';
	memcpy(out + directory_len + 1, name, name_len + 1);
	return out;
}
