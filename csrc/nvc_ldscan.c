/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_ldscan.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "nvc_cleanup.h"
#include "nvc_dir.h"
#include "nvc_elf.h"
#include "nvc_ldcache.h"

#define LIBC6 0x0003u /* an ELF library for glibc 2 */

/* What a loader of this machine can load. */
static const struct {
	uint32_t machine, bits, flags;
} kinds[] = {
#if defined(__x86_64__)
    {EM_X86_64, 64, LIBC6 | NVC_LDCACHE_X86_64},
    {EM_386, 32, LIBC6 | NVC_LDCACHE_I386},
    {EM_X86_64, 32, LIBC6 | 0x0800}, /* x32 */
#elif defined(__aarch64__)
    {EM_AARCH64, 64, LIBC6 | NVC_LDCACHE_AARCH64},
    {EM_ARM, 32, LIBC6 | NVC_LDCACHE_ARMHF},
#else
    {EM_PPC64, 64, LIBC6 | NVC_LDCACHE_PPC64LE},
    {EM_PPC, 32, LIBC6},
#endif
};

#define KIND_COUNT (sizeof kinds / sizeof kinds[0])

uint32_t nvc_ldscan_flags(uint32_t bits)
{
	size_t i = 0;

	while (i + 1 < KIND_COUNT && kinds[i].bits != bits)
		i++;
	return kinds[i].flags;
}

/* A name in the directory. `soname` is NULL until it is known to be a library. */
struct candidate {
	const char *name;
	const char *soname;
	uint32_t flags;
	bool is_link;  /* the name is a link */
	bool is_alias; /* and one of the names that the library is meant to have */
	uint64_t dev, ino;
};

/* Finds strings: a hash table of indices into an array, 0 where nothing is. */
struct table {
	uint32_t *slots, mask;
};

struct scan {
	const struct nvc_root *root;
	const struct nvc_lddir *directory;
	struct nvc_arena *memory;
	int dir_fd;
	struct candidate *all;
	uint32_t count, max;
	struct table names; /* of all candidates */
};

static uint32_t hash(const char *text)
{
	uint32_t value = 2166136261u; /* FNV-1a */

	for (; *text != '\0'; text++)
		value = (value ^ (unsigned char)*text) * 16777619u;
	return value;
}

static int open_table(struct nvc_arena *memory, uint32_t count, struct table *out)
{
	uint32_t size = 16;

	while (size < 2 * count)
		size *= 2;
	out->mask = size - 1;
	out->slots = nvc_arena_take(memory, size * sizeof *out->slots);
	if (out->slots == NULL)
		return -1;
	memset(out->slots, 0, size * sizeof *out->slots);
	return 0;
}

/* --- candidates ---------------------------------------------------------------------------------
 */

/* "lib….so…", or the loader itself. */
static bool is_library_name(const char *name)
{
	return (strncmp(name, "lib", 3) == 0 || strncmp(name, "ld-", 3) == 0) &&
	       strstr(name, ".so") != NULL;
}

static int count_name(void *cookie, const char *name, unsigned char type)
{
	struct scan *scan = cookie;

	(void)type;
	scan->max += is_library_name(name) ? 1 : 0;
	return 0;
}

static int take_name(void *cookie, const char *name, unsigned char type)
{
	struct scan *scan = cookie;
	struct stat st;

	if (!is_library_name(name) || scan->count == scan->max)
		return 0;
	bool is_link = type == DT_LNK;
	if (type == DT_UNKNOWN)
		is_link = fstatat(scan->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		          S_ISLNK(st.st_mode);
	else if (type != DT_REG && type != DT_LNK)
		return 0;
	struct candidate *one = &scan->all[scan->count++];
	*one = (struct candidate){.name = nvc_arena_copy(scan->memory, name, strlen(name)),
	                          .is_link = is_link};
	return one->name == NULL ? -1 : 0;
}

static int list(struct scan *scan)
{
	if (nvc_dir_list(scan->dir_fd, count_name, scan) < 0)
		return 0;
	scan->all = nvc_arena_take(scan->memory, scan->max * sizeof *scan->all);
	if (scan->all == NULL || open_table(scan->memory, scan->max, &scan->names) < 0)
		return -1;
	errno = 0;
	if (nvc_dir_list(scan->dir_fd, take_name, scan) < 0 && errno == ENOMEM)
		return -1;
	for (uint32_t i = 0; i < scan->count; i++) {
		uint32_t at = hash(scan->all[i].name) & scan->names.mask;
		while (scan->names.slots[at] != 0)
			at = (at + 1) & scan->names.mask;
		scan->names.slots[at] = i + 1;
	}
	return 0;
}

static struct candidate *find(const struct scan *scan, const char *name)
{
	for (uint32_t at = hash(name) & scan->names.mask; scan->names.slots[at] != 0;
	     at = (at + 1) & scan->names.mask) {
		struct candidate *one = &scan->all[scan->names.slots[at] - 1];
		if (strcmp(one->name, name) == 0)
			return one;
	}
	return NULL;
}

/* --- facts --------------------------------------------------------------------------------------
 */

/* Read what an O_PATH descriptor stands for into a candidate. */
static int read_facts(struct scan *scan, int path_fd, struct candidate *one)
{
	struct nvc_elf_facts facts;
	struct nvc_error err;
	struct stat st;
	nvc_autofd int fd = nvc_path_reopen(scan->root, path_fd, &st);

	if (fd < 0 || nvc_elf_read_fd(fd, one->name, (uint64_t)st.st_size, &facts, &err) < 0)
		return 0;
	one->dev = st.st_dev;
	one->ino = st.st_ino;
	if (facts.type != ET_DYN || facts.dynamic != 1)
		return 0;
	for (size_t i = 0; i < KIND_COUNT; i++) {
		if (facts.machine != kinds[i].machine || facts.bits != kinds[i].bits)
			continue;
		one->flags = kinds[i].flags;
		/* The loader looks up no name that has a slash. */
		if (strchr(facts.soname, '/') != NULL)
			return 0;
		one->soname = facts.soname[0] == '\0' ? one->name
		                                      : nvc_arena_copy(scan->memory, facts.soname,
		                                                       strlen(facts.soname));
		return one->soname == NULL ? -1 : 0;
	}
	return 0;
}

static int read_file(struct scan *scan, struct candidate *one)
{
	nvc_autofd int fd = openat(scan->dir_fd, one->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? 0 : read_facts(scan, fd, one);
}

/* The file of this directory that a link leads to through this directory alone. */
static const struct candidate *find_neighbour(const struct scan *scan, const struct candidate *one)
{
	char target[NVC_ELF_NAME_SIZE];

	for (int links = 0; one != NULL && one->is_link && links < 8; links++) {
		ssize_t len = readlinkat(scan->dir_fd, one->name, target, sizeof target);
		if (len <= 0 || (size_t)len == sizeof target)
			return NULL;
		target[len] = '\0';
		one = find(scan, target);
	}
	return one != NULL && !one->is_link ? one : NULL;
}

static int read_link(struct scan *scan, struct candidate *one)
{
	const struct candidate *neighbour = find_neighbour(scan, one);
	struct stat st;

	if (neighbour != NULL) {
		one->soname = neighbour->soname == neighbour->name ? one->name : neighbour->soname;
		one->flags = neighbour->flags;
		one->dev = neighbour->dev;
		one->ino = neighbour->ino;
		return 0;
	}
	const char *path = nvc_arena_join(scan->memory, scan->directory->path, one->name);
	if (path == NULL)
		return -1;
	nvc_autofd int fd = nvc_path_open(scan->root, path, &st);
	return fd < 0 ? 0 : read_facts(scan, fd, one);
}

/* A link that has the SONAME, or its beginning up to ".so" for linkers, is another name of the
 * library that it leads to. Any other link is taken for a library of its own. */
static void judge_link(struct candidate *one)
{
	size_t len = strlen(one->name);

	if (!one->is_link || one->soname == NULL)
		return;
	one->is_alias = strcmp(one->name, one->soname) == 0 ||
	                (len >= 3 && strcmp(one->name + len - 3, ".so") == 0 &&
	                 strncmp(one->name, one->soname, len) == 0);
	if (one->is_alias)
		one->soname = one->name;
}

static int read_all(struct scan *scan)
{
	for (uint32_t i = 0; i < scan->count; i++) {
		if (!scan->all[i].is_link && read_file(scan, &scan->all[i]) < 0)
			return -1;
	}
	for (uint32_t i = 0; i < scan->count; i++) {
		if (scan->all[i].is_link && read_link(scan, &scan->all[i]) < 0)
			return -1;
	}
	for (uint32_t i = 0; i < scan->count; i++)
		judge_link(&scan->all[i]);
	return 0;
}

/* --- choice -------------------------------------------------------------------------------------
 */

/* Whether `one` takes the place of another with its SONAME: a file that of a link, else the newer
 * version. */
static bool is_better(const struct candidate *one, const struct candidate *other)
{
	if (one->is_alias != other->is_alias)
		return !one->is_alias;
	return nvc_libset_compare_names(one->name, other->name) > 0;
}

/* Where the one that has the SONAME, and is for the same loader, is noted, or would be. */
static uint32_t *find_place(const struct scan *scan, const struct table *sonames,
                            const struct candidate *one)
{
	uint32_t at = hash(one->soname) & sonames->mask;

	for (; sonames->slots[at] != 0; at = (at + 1) & sonames->mask) {
		const struct candidate *other = &scan->all[sonames->slots[at] - 1];
		if (other->flags == one->flags && strcmp(other->soname, one->soname) == 0)
			break;
	}
	return &sonames->slots[at];
}

/* By what name the file is found: by the SONAME, which outlives an update, if that leads to it, or
 * is a library of its own, which nobody makes a link in place of. Below glibc-hwcaps nobody makes
 * such links. */
static const char *file_name(const struct scan *scan, const struct candidate *one)
{
	const struct candidate *other =
	    scan->directory->hwcaps == NULL ? find(scan, one->soname) : NULL;

	if (other == NULL || other->soname == NULL)
		return one->name;
	return (other->ino == one->ino && other->dev == one->dev) ||
	               (!other->is_link && other->flags == one->flags)
	           ? one->soname
		   : one->name;
}

static int choose(const struct scan *scan, uint32_t rank, uint32_t number, struct nvc_libset *set)
{
	struct table sonames;

	if (open_table(scan->memory, scan->count, &sonames) < 0)
		return -1;
	for (uint32_t i = 0; i < scan->count; i++) {
		const struct candidate *one = &scan->all[i];
		uint32_t *place = one->soname == NULL ? NULL : find_place(scan, &sonames, one);
		if (place != NULL && (*place == 0 || is_better(one, &scan->all[*place - 1])))
			*place = i + 1;
	}
	for (uint32_t at = 0; at <= sonames.mask; at++) {
		if (sonames.slots[at] == 0)
			continue;
		const struct candidate *one = &scan->all[sonames.slots[at] - 1];
		struct nvc_library library = {
		    .soname = one->soname,
		    .path =
		        nvc_arena_join(scan->memory, scan->directory->path, file_name(scan, one)),
		    .hwcaps = scan->directory->hwcaps,
		    .flags = one->flags,
		    .rank = rank,
		    .place = number};
		if (library.path == NULL || nvc_libset_add(set, &library) < 0)
			return -1;
	}
	return 0;
}

int nvc_ldscan(const struct nvc_root *root, const struct nvc_lddir *directory, uint32_t rank,
               uint32_t number, struct nvc_libset *set)
{
	struct scan scan = {.root = root, .directory = directory, .memory = &set->memory};
	struct stat st;
	nvc_autofd int dir_fd = nvc_path_open(root, directory->path, &st);

	if (dir_fd < 0)
		return 0;
	scan.dir_fd = dir_fd;
	if (list(&scan) < 0)
		return -1;
	return scan.count == 0 ? 0 : read_all(&scan) < 0 ? -1 : choose(&scan, rank, number, set);
}
