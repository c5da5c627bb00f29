/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_loader.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "nvc_cleanup.h"
#include "nvc_ldscan.h"

/* Ranks in the search order. The operation's own directories come first, by number. */
#define RANK_OURS       (NVC_PLAN_DIRECTORIES + 0u) /* of the plan, in no configured directory */
#define RANK_UNKNOWN    (NVC_PLAN_DIRECTORIES + 1u) /* somebody ran ldconfig for a directory */
#define RANK_CONFIGURED (NVC_PLAN_DIRECTORIES + 2u) /* and on, by number */
#define RANK_SPARE      UINT32_MAX                  /* of an old cache, if nothing else answers */

#if defined(__x86_64__)
#define GLIBC_LOADER "/lib64/ld-linux-x86-64.so.2"
#define MUSL_NAME    "ld-musl-x86_64"
#elif defined(__aarch64__)
#define GLIBC_LOADER "/lib/ld-linux-aarch64.so.1"
#define MUSL_NAME    "ld-musl-aarch64"
#else
#define GLIBC_LOADER "/lib64/ld64.so.2"
#define MUSL_NAME    "ld-musl-powerpc64le"
#endif

#define MUSL_LOADER  "/lib/" MUSL_NAME ".so.1"
#define MUSL_FILE    MUSL_NAME ".path"
#define MUSL_DEFAULT "/lib:/usr/local/lib:/usr/lib" /* where it looks without such a file */

static int fail(const struct nvc_root *root, const char *step, struct nvc_error *err)
{
	return nvc_fail_errno_at(err, NVC_ELDCACHE, step, root->name, NVC_CACHE_PATH);
}

static bool exists(const struct nvc_root *root, const char *path)
{
	struct stat st;
	nvc_autofd int fd = nvc_path_open(root, path, &st);

	return fd >= 0;
}

/* --- places -------------------------------------------------------------------------------------
 */

/* Which of the configured directories a path names: its number from 1, or 0. */
static uint32_t resolve_place(const struct nvc_root *root, const struct nvc_ldconf *conf,
                              const char *path)
{
	struct stat st;
	nvc_autofd int fd = nvc_path_open(root, path, &st);
	const struct nvc_lddir *found = fd < 0 ? NULL : nvc_ldconf_find(conf, st.st_dev, st.st_ino);

	return found == NULL ? 0 : (uint32_t)(found - conf->all) + 1;
}

static bool is_path(const char *path, const char *text, size_t len)
{
	return strncmp(path, text, len) == 0 && path[len] == '\0';
}

/* The place of the directory that a library is in. */
static uint32_t find_place(const struct nvc_root *root, struct nvc_loader *loader,
                           const char *library)
{
	const struct nvc_ldconf *conf = &loader->conf;
	const char *slash = strrchr(library, '/');
	size_t len = slash == NULL ? 0 : (size_t)(slash - library);
	char path[PATH_MAX];

	for (uint32_t i = 0; i < conf->count; i++) {
		if (is_path(conf->all[i].path, library, len))
			return i + 1;
	}
	for (uint32_t i = 0; i < loader->alias_count; i++) {
		if (loader->aliases[i].len == len &&
		    memcmp(loader->aliases[i].path, library, len) == 0)
			return loader->aliases[i].place;
	}
	if (len == 0 || len >= sizeof path || loader->alias_count == NVC_LOADER_ALIASES)
		return 0;
	memcpy(path, library, len);
	path[len] = '\0';
	uint32_t place = resolve_place(root, conf, path);
	loader->aliases[loader->alias_count].path = library;
	loader->aliases[loader->alias_count].len = len;
	loader->aliases[loader->alias_count].place = place;
	loader->alias_count++;
	return place;
}

/* Whether two libraries are in the same directory. */
static bool is_same_place(uint32_t place_a, const char *a, uint32_t place_b, const char *b)
{
	const char *slash = strrchr(a, '/');
	size_t len = slash == NULL ? 0 : (size_t)(slash - a) + 1;

	if (place_a != 0 || place_b != 0)
		return place_a == place_b;
	return strncmp(a, b, len) == 0 && strchr(b + len, '/') == NULL;
}

/* --- what is there ------------------------------------------------------------------------------
 */

static bool is_older(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec < b->tv_sec || (a->tv_sec == b->tv_sec && a->tv_nsec < b->tv_nsec);
}

/* Rank the entries of a cache. Those that answer for one name keep their order, whatever it is. */
static void rank_entries(const struct nvc_root *root, struct nvc_loader *loader)
{
	struct nvc_library *last = NULL;

	for (uint32_t i = 0; i < loader->set.count; i++) {
		struct nvc_library *library = &loader->set.all[i];
		library->place = find_place(root, loader, library->path);
		library->rank =
		    library->place == 0 ? RANK_UNKNOWN : RANK_CONFIGURED + library->place - 1;
		if (last != NULL && library->rank < last->rank && nvc_libset_rivals(last, library))
			library->rank = last->rank;
		last = library;
	}
}

static int scan_all(const struct nvc_root *root, struct nvc_loader *loader)
{
	for (uint32_t i = 0; i < loader->conf.count; i++) {
		if (nvc_ldscan(root, &loader->conf.all[i], RANK_CONFIGURED + i, i + 1,
		               &loader->set) < 0)
			return -1;
	}
	return 0;
}

static bool has_content(const struct nvc_root *root, const char *path)
{
	struct stat st;
	nvc_autofd int fd = nvc_path_open(root, path, &st);

	return fd >= 0 && S_ISREG(st.st_mode) && st.st_size > 0;
}

/* Of an old cache keep what is still there: for want of anything else, but that what was put before
 * the configured directories here stays there. */
static void keep_spare(const struct nvc_root *root, const struct nvc_journal *journal,
                       struct nvc_loader *loader)
{
	bool is_own = nvc_libset_is_own(journal->cache, journal->file->cache_len);
	struct nvc_libset *set = &loader->set;
	uint32_t kept = 0;

	for (uint32_t i = 0; i < set->count; i++) {
		struct nvc_library *old = &set->all[i];
		if (!has_content(root, old->path))
			continue;
		if (!is_own || old->place != 0)
			old->rank = RANK_SPARE;
		set->all[kept++] = *old;
	}
	set->count = kept;
}

static int read_old(const struct nvc_root *root, const struct nvc_journal *journal,
                    struct nvc_loader *loader)
{
	struct nvc_error ignored;

	loader->is_old =
	    !loader->cache.exists || is_older(&loader->cache.mtime, &loader->conf.newest);
	if (!loader->cache.exists ||
	    nvc_libset_read(&loader->set, journal->cache, journal->file->cache_len, &ignored) < 0) {
		loader->is_old = true;
		loader->set.count = 0;
	}
	rank_entries(root, loader);
	if (!loader->is_old)
		return 0;
	keep_spare(root, journal, loader);
	return scan_all(root, loader);
}

int nvc_loader_prepare(const struct nvc_root *root, struct nvc_journal *journal,
                       struct nvc_loader *out, struct nvc_error *err)
{
	if (nvc_cache_open(root, NVC_CACHE_NAME, &out->cache, err) < 0)
		return -1;
	bool has_dir = out->cache.dir_fd >= 0;
	if (has_dir && nvc_cache_save(root, &out->cache, journal, err) < 0)
		return -1;
	if (has_dir && !out->cache.exists && exists(root, MUSL_LOADER) &&
	    !exists(root, GLIBC_LOADER)) {
		out->is_musl = true;
		out->cache.name = MUSL_FILE;
		if (nvc_cache_save(root, &out->cache, journal, err) < 0)
			return -1;
	}
	if (nvc_libset_open(&out->set) < 0)
		return fail(root, "memory", err);
	if (out->is_musl)
		return 0;
	if (nvc_ldconf_read(root, &out->set.memory, &out->conf) < 0 ||
	    read_old(root, journal, out) < 0)
		return fail(root, "read", err);
	return 0;
}

void nvc_loader_close(struct nvc_loader *loader)
{
	nvc_close_fd(&loader->cache.dir_fd);
	nvc_libset_close(&loader->set);
}

/* --- glibc --------------------------------------------------------------------------------------
 */

/* Take out what the new ones, from `first` on, take the place of: same name, same directory. Those
 * that keep their place stand behind what did not come from there. */
static void drop_replaced(struct nvc_libset *set, uint32_t first, bool in_place)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < set->count; i++) {
		const struct nvc_library *old = &set->all[i];
		bool replaced = false;
		for (uint32_t j = first; i < first && j < set->count && !replaced; j++) {
			struct nvc_library *ours = &set->all[j];
			replaced = nvc_libset_rivals(old, ours) &&
			           is_same_place(old->place, old->path, ours->place, ours->path);
			if (replaced && in_place && old->rank > ours->rank &&
			    old->rank != RANK_SPARE)
				ours->rank = old->rank;
		}
		/* Below `first` only: those that are compared with stay where they are. */
		if (!replaced)
			set->all[kept++] = *old;
	}
	set->count = kept;
}

/* Take out, of a sorted set, what an old cache had for names that something else answers. */
static void drop_spare(struct nvc_libset *set)
{
	uint32_t kept = 0;

	for (uint32_t first = 0, end; first < set->count; first = end) {
		const char *name = set->all[first].soname;
		for (end = first + 1; end < set->count; end++) {
			if (strcmp(set->all[end].soname, name) != 0)
				break;
		}
		for (uint32_t i = first; i < end; i++) {
			const struct nvc_library *other = &set->all[i];
			for (uint32_t j = first; other->rank < RANK_SPARE && j < end; j++) {
				struct nvc_library *spare = &set->all[j];
				if (spare->rank == RANK_SPARE && nvc_libset_rivals(spare, other))
					spare->path = NULL;
			}
		}
	}
	for (uint32_t i = 0; i < set->count; i++) {
		if (set->all[i].path != NULL)
			set->all[kept++] = set->all[i];
	}
	set->count = kept;
}

/* Give the libraries of a directory, from `first` on, the names that ldconfig makes links of. */
static int link_libraries(struct nvc_loader *loader, const char *directory, uint32_t place,
                          uint32_t first)
{
	for (uint32_t i = first; i < loader->set.count; i++) {
		struct nvc_library *library = &loader->set.all[i];
		if (library->place != place || library->rank == RANK_SPARE)
			continue;
		const char *name = strrchr(library->path, '/') + 1; /* it was looked through */
		if (strcmp(name, library->soname) == 0 ||
		    !loader->link(loader->cookie, directory, library->soname, name))
			continue;
		library->path = nvc_arena_join(&loader->set.memory, directory, library->soname);
		if (library->path == NULL)
			return -1;
	}
	return 0;
}

static int add_directory(const struct nvc_root *root, struct nvc_loader *loader,
                         const char *directory, uint32_t number, bool in_place)
{
	struct nvc_lddir one = {.path = directory};
	uint32_t place = resolve_place(root, &loader->conf, directory);
	uint32_t rank = number, first = loader->set.count;

	if (in_place)
		rank = place == 0 ? RANK_UNKNOWN : RANK_CONFIGURED + place - 1;
	if (in_place && place != 0) {
		/* By that name it is known. */
		one.path = loader->conf.all[place - 1].path;
		one.hwcaps = loader->conf.all[place - 1].hwcaps;
	}
	if (in_place && place != 0 && loader->is_old)
		first = 0; /* it was looked through */
	else if (nvc_ldscan(root, &one, rank, place, &loader->set) < 0)
		return -1;
	return in_place && one.hwcaps == NULL ? link_libraries(loader, one.path, place, first) : 0;
}

static int add_directories(const struct nvc_root *root, struct nvc_loader *loader,
                           const char **text, uint32_t count, bool in_place)
{
	for (uint32_t i = 0; i < count; i++, *text = nvc_plan_next(*text)) {
		if (add_directory(root, loader, *text, i, in_place) < 0)
			return -1;
	}
	return 0;
}

static int add_libraries(const struct nvc_root *root, struct nvc_loader *loader, const char *text,
                         const char *end)
{
	while (text < end) {
		const char *path = nvc_plan_next(text), *bits = nvc_plan_next(path);
		struct nvc_library library = {
		    .soname = text,
		    .path = path,
		    .flags = nvc_ldscan_flags(strcmp(bits, "32") == 0 ? 32 : 64)};
		library.place = find_place(root, loader, path);
		library.rank = library.place == 0 ? RANK_OURS : RANK_CONFIGURED + library.place - 1;
		if (nvc_libset_add(&loader->set, &library) < 0)
			return -1;
		text = nvc_plan_next(bits);
	}
	return 0;
}

/* The first library that stands before one of the plan's, in a sorted set, and is not there
 * because the plan says so. */
static const char *find_shadow(const struct nvc_libset *set, const char *text, const char *end)
{
	for (uint32_t i = 0; i + 1 < set->count; i++) {
		const struct nvc_library *first = &set->all[i], *next = first + 1;
		if (first->rank >= RANK_UNKNOWN && first->path[0] == '/' && next->path >= text &&
		    next->path < end && !(first->path >= text && first->path < end) &&
		    nvc_libset_rivals(first, next))
			return first->path;
	}
	return NULL;
}

static int add_to_cache(const struct nvc_root *root, struct nvc_loader *loader,
                        const struct nvc_journal *journal, const struct nvc_plan *plan,
                        const struct nvc_op *op, const uint8_t **data, size_t *len,
                        const char **shadow)
{
	const char *text = nvc_plan_text(plan, op->data), *end = text + op->data_len;
	uint32_t before = loader->set.count;
	bool in_place = (op->flags & NVC_OP_IN_PLACE) != 0;

	if (add_directories(root, loader, &text, op->count, in_place) < 0 ||
	    add_libraries(root, loader, text, end) < 0)
		return -1;
	drop_replaced(&loader->set, before, in_place);
	if (nvc_libset_sort(&loader->set) < 0)
		return -1;
	drop_spare(&loader->set);
	*shadow = find_shadow(&loader->set, text, end);
	if (nvc_libset_write(&loader->set, data, len) < 0)
		return -1;
	/* An old one is written again, so that the next one need not look through everything. */
	if ((in_place || !loader->is_old) && loader->cache.exists &&
	    *len == journal->file->cache_len && memcmp(*data, journal->cache, *len) == 0)
		*data = NULL;
	return 0;
}

/* --- musl ---------------------------------------------------------------------------------------
 */

/* A list under construction; `text` has room for all. */
struct list {
	char *text;
	size_t len;
};

/* Its directories are separated by colons or newlines. */
static bool has_directory(const struct list *list, const char *directory, size_t len)
{
	for (size_t at = 0; at < list->len;) {
		size_t other = strcspn(list->text + at, ":\n");
		if (other == len && memcmp(list->text + at, directory, len) == 0)
			return true;
		at += other + 1;
	}
	return false;
}

static void append(struct list *list, const char *directory, size_t len)
{
	if (has_directory(list, directory, len))
		return;
	if (list->len > 0 && list->text[list->len - 1] != '\n')
		list->text[list->len++] = '\n';
	memcpy(list->text + list->len, directory, len);
	list->len += len;
	list->text[list->len] = '\0';
}

static int add_to_list(struct nvc_loader *loader, const struct nvc_journal *journal,
                       const struct nvc_plan *plan, const struct nvc_op *op, const uint8_t **data,
                       size_t *len)
{
	const char *text = nvc_plan_text(plan, op->data), *end = text + op->data_len;
	const char *old = loader->cache.exists ? (const char *)journal->cache : MUSL_DEFAULT;
	size_t old_len = loader->cache.exists ? journal->file->cache_len : strlen(MUSL_DEFAULT);
	struct list list = {.text =
	                        nvc_arena_take(&loader->set.memory, old_len + op->data_len + 2)};

	if (list.text == NULL)
		return -1;
	bool in_place = (op->flags & NVC_OP_IN_PLACE) != 0;
	const char *own = text;
	/* Directories that go first cannot be told from those that are there already. */
	for (uint32_t i = 0; i < op->count; i++, text = nvc_plan_next(text)) {
		if (!in_place)
			append(&list, text, strlen(text));
	}
	size_t first = list.len;
	if (first > 0)
		list.text[list.len++] = '\n';
	memcpy(list.text + list.len, old, old_len);
	list.len += old_len;
	list.text[list.len] = '\0';
	first = list.len;
	for (uint32_t i = 0; in_place && i < op->count; i++, own = nvc_plan_next(own))
		append(&list, own, strlen(own));
	while (text < end) {
		const char *path = nvc_plan_next(text);
		if (strcmp(nvc_plan_next(path), "64") == 0)
			append(&list, path, (size_t)(strrchr(path, '/') - path));
		text = nvc_plan_next(nvc_plan_next(path));
	}
	*data =
	    (op->count > 0 && !in_place) || list.len > first ? (const uint8_t *)list.text : NULL;
	*len = list.len;
	return 0;
}

/* ------------------------------------------------------------------------------------------------
 */

int nvc_loader_add(const struct nvc_root *root, struct nvc_loader *loader,
                   const struct nvc_journal *journal, const struct nvc_plan *plan,
                   const struct nvc_op *op, const uint8_t **data, size_t *len, const char **shadow,
                   struct nvc_error *err)
{
	int result;

	*data = NULL;
	*len = 0;
	*shadow = NULL;
	result = loader->is_musl ? add_to_list(loader, journal, plan, op, data, len)
	                         : add_to_cache(root, loader, journal, plan, op, data, len, shadow);
	return result < 0 ? fail(root, "merge", err) : 0;
}

static int rebuild(const struct nvc_root *root, struct nvc_loader *loader, struct nvc_error *err)
{
	const uint8_t *data;
	size_t len;

	if (nvc_cache_open(root, NVC_CACHE_NAME, &loader->cache, err) < 0)
		return -1;
	if (loader->cache.dir_fd < 0)
		return 0;
	if (nvc_libset_open(&loader->set) < 0 ||
	    nvc_ldconf_read(root, &loader->set.memory, &loader->conf) < 0 ||
	    scan_all(root, loader) < 0 || nvc_libset_sort(&loader->set) < 0 ||
	    nvc_libset_write(&loader->set, &data, &len) < 0)
		return fail(root, "rebuild", err);
	int result = nvc_cache_replace(root, &loader->cache, data, len, NULL, -1, err);
	return result == 0 ? 0 : -1;
}

int nvc_loader_rebuild(const struct nvc_root *root, struct nvc_error *err)
{
	struct nvc_loader loader = nvc_loader_init;
	int result = rebuild(root, &loader, err);

	nvc_loader_close(&loader);
	return result;
}
