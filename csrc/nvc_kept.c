/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_kept.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "nvc_cleanup.h"
#include "nvc_find.h"
#include "nvc_io.h"

#define COMPAT     "/usr/local/cuda/compat" /* libnvc/_discover/compat.py */
#define PARAMS     "/proc/driver/nvidia/params"
#define PARAMS_MAX 65536
#define NAMES_MAX  256 /* of a directory: libnvc/_discover/compat.py looks at no more */
#define HASH_START 0xcbf29ce484222325u
#define HASH_PRIME 0x9e3779b97f4a7c15u

void nvc_bytes_free(struct nvc_bytes *bytes)
{
	nvc_free_ptr(&bytes->data);
	bytes->len = 0;
}

/* Each step can be undone, and so keeps apart what was apart before. */
static uint64_t mix(uint64_t hash, uint64_t word)
{
	hash = (hash ^ word) * HASH_PRIME;
	return hash ^ (hash >> 32);
}

uint64_t nvc_kept_hash(const char *data, size_t len)
{
	uint64_t hash = mix(HASH_START, len), word;

	for (; len >= sizeof word; len -= sizeof word, data += sizeof word) {
		memcpy(&word, data, sizeof word);
		hash = mix(hash, word);
	}
	word = 0;
	if (len > 0)
		memcpy(&word, data, len);
	return mix(hash, word);
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

static DIR *open_inside(struct nvc_finder *finder, const char *path)
{
	struct nvc_place place;
	struct nvc_walk how = {.follow = true};
	struct nvc_error err;

	if (nvc_path_walk(&finder->root, path, &how, &place, &err) < 0 || place.fd < 0)
		return NULL;
	nvc_autofd int path_fd = place.fd;
	int fd = openat(path_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? NULL : fdopendir(fd);
}

/* Write something of each path in a directory that fits, in order. False also where there are too
 * many. */
static bool put_each(struct nvc_finder *finder, const char *directory_path,
                     bool (*fits)(const char *),
                     bool (*put)(struct nvc_finder *, const char *, FILE *), FILE *out)
{
	nvc_autodir DIR *directory = open_inside(finder, directory_path);
	char *names[NAMES_MAX], path[PATH_MAX];
	size_t count = 0, looked = 0;
	bool good = directory != NULL;

	for (struct dirent *entry; good && (entry = readdir(directory)) != NULL;) {
		good = ++looked <= NAMES_MAX;
		if (!good || !fits(entry->d_name))
			continue;
		good = count < NAMES_MAX && (names[count] = strdup(entry->d_name)) != NULL;
		count += good ? 1 : 0;
	}
	qsort(names, count, sizeof *names, by_name);
	for (size_t i = 0; i < count; i++) {
		int len = snprintf(path, sizeof path, "%s/%s", directory_path, names[i]);
		good = good && (size_t)len < sizeof path && put(finder, path, out);
		free(names[i]);
	}
	return good;
}

static bool is_library(const char *name)
{
	return strncmp(name, "lib", 3) == 0 && strstr(name, ".so.") != NULL;
}

static bool put_library(struct nvc_finder *finder, const char *path, FILE *out)
{
	return put_place(finder, path, out) >= 0;
}

static bool put_compat(struct nvc_finder *finder,
                       bool (*put)(struct nvc_finder *, const char *, FILE *), FILE *out)
{
	int result = put_place(finder, COMPAT, out);

	return result == 0 || (result > 0 && put_each(finder, COMPAT, is_library, put, out));
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
	good = good && put_compat(&finder, put_library, out);
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

/* --- hooks of CDI files -------------------------------------------------------------------------
 */

/* Write which file is at a path, and the path: its name has a meaning. Its file system has another
 * number in each container. */
static bool put_file(struct nvc_finder *finder, const char *path, FILE *out)
{
	struct nvc_found found = {.path = ""};
	struct nvc_error err;

	if (nvc_find(finder, path, &found, &err) < 0)
		return false;
	return fprintf(out, "%s %s %" PRIo64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64, path,
	               found.path, (uint64_t)found.mode & S_IFMT, found.ino, found.size,
	               found.mtime, found.ctime) > 0 &&
	       fputc('\0', out) >= 0;
}

static bool is_gpu(const char *name)
{
	static const char start[] = "nvidia";
	const char *digits = name + sizeof start - 1;

	return strncmp(name, start, sizeof start - 1) == 0 && *digits != '\0' &&
	       digits[strspn(digits, "0123456789")] == '\0';
}

static bool put_node(struct nvc_finder *finder, const char *path, FILE *out)
{
	struct nvc_found found;
	struct nvc_error err;

	return nvc_find(finder, path, &found, &err) == 1 &&
	       fprintf(out, "%s %" PRIo64 " %" PRIu64, path, found.mode & S_IFMT, found.rdev) > 0 &&
	       fputc('\0', out) >= 0;
}

/* The parameters of the kernel module as the container sees them, perhaps changed already. */
static bool put_params(struct nvc_finder *finder, FILE *out)
{
	char text[PARAMS_MAX];
	struct nvc_error err;
	nvc_autofd int fd = nvc_find_open(finder, PARAMS, &err);
	ssize_t len = fd < 0 ? 0 : nvc_read_all(fd, text, sizeof text);

	return fd < 0 ? fputs("unreadable", out) >= 0
	              : len >= 0 && (size_t)len < sizeof text &&
	                    fwrite(text, 1, (size_t)len, out) == (size_t)len;
}

static bool put_seen(struct nvc_finder *finder, const char *hook, FILE *out)
{
	if (strcmp(hook, "create-symlinks") == 0 || strcmp(hook, "update-ldcache") == 0)
		return true;
	if (strcmp(hook, "enable-cuda-compat") == 0)
		return put_compat(finder, put_file, out);
	if (strcmp(hook, "disable-device-node-modification") == 0)
		return put_params(finder, out);
	return strcmp(hook, "update-application-profile") == 0 &&
	       put_each(finder, "/dev", is_gpu, put_node, out);
}

bool nvc_kept_hook(const char *rootfs, const char *hook, struct nvc_bytes *out)
{
	FILE *stream = open_memstream(&out->data, &out->len);
	struct nvc_finder finder;
	struct nvc_error err;
	bool good = stream != NULL && nvc_finder_open(&finder, rootfs, &err) == 0;

	if (stream == NULL)
		return false;
	if (good) {
		good = put_seen(&finder, hook, stream);
		nvc_finder_close(&finder);
	}
	return finish(&stream, good, out);
}

bool nvc_kept_edit(const struct nvc_document *document, const struct nvc_edit *edit,
                   struct nvc_bytes *out)
{
	FILE *stream = open_memstream(&out->data, &out->len);

	if (stream == NULL)
		return false;
	return finish(&stream, nvc_document_edit(document, edit, stream), out);
}
