/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_kept.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "nvc_cleanup.h"
#include "nvc_find.h"

#define COMPAT     "/usr/local/cuda/compat" /* libnvc/_discover/compat.py */
#define NAMES_MAX  256
#define FNV_OFFSET 0xcbf29ce484222325u
#define FNV_PRIME  0x100000001b3u

void nvc_bytes_free(struct nvc_bytes *bytes)
{
	nvc_free_ptr(&bytes->data);
	bytes->len = 0;
}

uint64_t nvc_kept_hash(const char *data, size_t len)
{
	uint64_t hash = FNV_OFFSET;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ (unsigned char)data[i]) * FNV_PRIME;
	return hash;
}

/* Write where a path of the image leads, 0 if nowhere, -1 if that cannot be told. */
static int put_place(struct nvc_finder *finder, const char *path, FILE *out)
{
	struct nvc_found found;
	struct nvc_error err;
	int result = nvc_find(finder, path, &found, &err);

	if (result < 0)
		return -1;
	if (fprintf(out, "%s %s", path, result == 1 ? found.path : "") < 0 || fputc('\0', out) < 0)
		return -1;
	return result;
}

static int by_name(const void *left, const void *right)
{
	return strcmp(*(char *const *)left, *(char *const *)right);
}

/* Write where the compatibility libraries lead to. False also where there are too many. */
static bool put_libraries(struct nvc_finder *finder, DIR *directory, FILE *out)
{
	char *names[NAMES_MAX], path[PATH_MAX];
	size_t count = 0;
	bool good = true;

	for (struct dirent *entry; good && (entry = readdir(directory)) != NULL;) {
		const char *name = entry->d_name;
		if (strncmp(name, "lib", 3) != 0 || strstr(name, ".so.") == NULL)
			continue;
		good = count < NAMES_MAX && (names[count] = strdup(name)) != NULL;
		count += good ? 1 : 0;
	}
	qsort(names, count, sizeof *names, by_name);
	for (size_t i = 0; i < count; i++) {
		int len = snprintf(path, sizeof path, COMPAT "/%s", names[i]);
		good = good && (size_t)len < sizeof path && put_place(finder, path, out) >= 0;
		free(names[i]);
	}
	return good;
}

static bool put_compat(struct nvc_finder *finder, FILE *out)
{
	struct nvc_place place;
	struct nvc_walk how = {.follow = true};
	struct nvc_error err;
	int result = put_place(finder, COMPAT, out);

	if (result <= 0)
		return result == 0;
	if (nvc_path_walk(&finder->root, COMPAT, &how, &place, &err) < 0 || place.fd < 0)
		return false;
	nvc_autofd int path_fd = place.fd;
	int fd = openat(path_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	nvc_autodir DIR *directory = fd < 0 ? NULL : fdopendir(fd);
	return directory != NULL && put_libraries(finder, directory, out);
}

/* What libnvc/_discover/container.py looks at. */
static bool put_image(const char *rootfs, FILE *out)
{
	static const char *const places[] = {"/usr/lib32", "/usr/lib", "/usr/lib64"};
	struct nvc_finder finder;
	struct nvc_error err;
	int is_debian;
	bool good;

	if (nvc_finder_open(&finder, rootfs, &err) < 0)
		return false;
	is_debian = put_place(&finder, "/etc/debian_version", out);
	good = is_debian >= 0;
	for (size_t i = 0; good && is_debian == 0 && i < sizeof places / sizeof *places; i++)
		good = put_place(&finder, places[i], out) >= 0;
	good = good && put_compat(&finder, out);
	nvc_finder_close(&finder);
	return good;
}

/* End a stream of memory; what was written is the caller's if all of it was. */
static bool finish(FILE **stream, bool good, struct nvc_bytes *out)
{
	good = good && fflush(*stream) == 0 && !ferror(*stream);
	nvc_close_file(stream);
	if (!good)
		nvc_bytes_free(out);
	return good;
}

bool nvc_kept_key(const struct nvc_document *document, struct nvc_strings header,
                  struct nvc_strings asks, const char *rootfs, struct nvc_bytes *out)
{
	FILE *stream = open_memstream(&out->data, &out->len);

	if (stream == NULL)
		return false;
	return finish(&stream,
	              fwrite(header.at, 1, header.len, stream) == header.len &&
	                  nvc_document_key(document, asks, stream) && put_image(rootfs, stream),
	              out);
}

bool nvc_kept_image(const char *rootfs, struct nvc_bytes *out)
{
	FILE *stream = open_memstream(&out->data, &out->len);

	return stream != NULL && finish(&stream, put_image(rootfs, stream), out);
}

bool nvc_kept_edit(const struct nvc_document *document, const struct nvc_edit *edit,
                   struct nvc_bytes *out)
{
	FILE *stream = open_memstream(&out->data, &out->len);

	if (stream == NULL)
		return false;
	return finish(&stream, nvc_document_edit(document, edit, stream), out);
}
