/* SPDX-License-Identifier: Apache-2.0 */
#include "kept.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "nvc_cleanup.h"

#define KEPT_MAX  (4u << 20)
#define HASH_LEN  17 /* digits and a newline */
#define NAMES_MAX 4096
/* The inode of the first user namespace: include/linux/proc_ns.h of the kernel. */
#define INIT_USER_NAMESPACE 0xeffffffdu

/* A decimal number and the byte behind it. */
static bool take_number(struct nvc_json *left, char end, uint64_t *out)
{
	const char *start = left->at;

	*out = 0;
	for (; left->at < left->end && *left->at >= '0' && *left->at <= '9'; left->at++) {
		if (__builtin_mul_overflow(*out, 10u, out) ||
		    __builtin_add_overflow(*out, (uint64_t)(*left->at - '0'), out))
			return false;
	}
	return left->at > start && left->at < left->end && *left->at++ == end;
}

static bool take_bytes(struct nvc_json *left, uint64_t len, struct nvc_json *out)
{
	if (len > (uint64_t)(left->end - left->at))
		return false;
	*out = (struct nvc_json){.at = left->at, .end = left->at + len};
	left->at = out->end;
	return true;
}

bool kept_section(struct nvc_json *left, struct nvc_json *out)
{
	uint64_t len;

	return take_number(left, ':', &len) && take_bytes(left, len, out);
}

bool kept_strings(struct nvc_json *left, struct nvc_strings *out)
{
	struct nvc_json text;

	if (!kept_section(left, &text) || (text.end > text.at && text.end[-1] != '\0'))
		return false;
	*out = (struct nvc_strings){.at = text.at, .len = (size_t)(text.end - text.at)};
	return true;
}

static bool take_line(struct nvc_json *left, const char *line)
{
	size_t len = strlen(line);

	if ((size_t)(left->end - left->at) < len || memcmp(left->at, line, len) != 0)
		return false;
	left->at += len;
	return true;
}

bool kept_parse(const char *text, size_t len, const char *version, struct kept *out)
{
	struct nvc_json left = {.at = text, .end = text + len - HASH_LEN};
	char hash[HASH_LEN + 1];

	if (len < HASH_LEN)
		return false;
	(void)snprintf(hash, sizeof hash, "%016" PRIx64 "\n", nvc_kept_hash(text, len - HASH_LEN));
	if (memcmp(left.end, hash, HASH_LEN) != 0 || !take_line(&left, "nvckept 1 ") ||
	    !take_line(&left, version) || !take_line(&left, "\n") ||
	    !kept_section(&left, &out->key) || !kept_section(&left, &out->dependencies))
		return false;
	out->result = left;
	return true;
}

static bool put(FILE *out, const char *text)
{
	return fputs(text == NULL ? "" : text, out) >= 0 && fputc('\0', out) >= 0;
}

bool kept_header(const struct self *self, const char *config, FILE *out)
{
	return self->path[0] != '\0' && put(out, self->path) && put(out, self->name) &&
	       put(out, config) && put(out, getenv("PATH")) &&
	       put(out, getenv("CUDA_MPS_PIPE_DIRECTORY"));
}

#define auto_bytes __attribute__((cleanup(nvc_bytes_free)))

static bool put_front(const struct self *self, const struct front *front, struct nvc_bytes *header,
                      struct nvc_bytes *asks)
{
	nvc_autofile FILE *head = open_memstream(&header->data, &header->len);
	nvc_autofile FILE *list = open_memstream(&asks->data, &asks->len);
	const char *ask = front->asks.first;
	bool good = head != NULL && list != NULL && kept_header(self, front->identity, head);

	for (size_t i = 0; good && i < front->asks.count; i++, ask = front_next(&front->asks, ask))
		good = put(list, ask);
	return good && fflush(head) == 0 && fflush(list) == 0;
}

bool kept_key(const struct self *self, const struct front *front,
              const struct nvc_document *document, const char *rootfs, struct nvc_bytes *out)
{
	auto_bytes struct nvc_bytes header = {.data = NULL}, asks = {.data = NULL};

	return put_front(self, front, &header, &asks) &&
	       nvc_kept_key(document, (struct nvc_strings){.at = header.data, .len = header.len},
	                    (struct nvc_strings){.at = asks.data, .len = asks.len}, rootfs, out);
}

bool kept_in_first_user_namespace(void)
{
	struct stat st;

	return stat("/proc/self/ns/user", &st) == 0 && st.st_ino == INIT_USER_NAMESPACE;
}

static uint64_t in_ns(struct timespec time)
{
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static bool is_missing(int number)
{
	return number == ENOENT || number == ENOTDIR || number == ELOOP || number == EACCES;
}

/* What has a path, ended by NUL; false if that is not how it goes on. */
static bool take_path(struct nvc_json *left, const char **out)
{
	const char *end = memchr(left->at, '\0', (size_t)(left->end - left->at));

	if (end == NULL || *left->at != '/')
		return false;
	*out = left->at;
	left->at = end + 1;
	return true;
}

static bool is_same(struct nvc_json *left)
{
	uint64_t dev, ino, size, mtime, ctime;
	const char *path;
	struct stat st;

	if (!take_number(left, ' ', &dev) || !take_number(left, ' ', &ino) ||
	    !take_number(left, ' ', &size) || !take_number(left, ' ', &mtime) ||
	    !take_number(left, ' ', &ctime) || !take_path(left, &path))
		return false;
	if (lstat(path, &st) < 0)
		return is_missing(errno) && (dev | ino | size | mtime | ctime) == 0;
	return st.st_dev == dev && st.st_ino == ino && (uint64_t)st.st_size == size &&
	       in_ns(st.st_mtim) == mtime && in_ns(st.st_ctim) == ctime;
}

static bool has_content(const char *path, uint64_t mode, struct nvc_json bytes)
{
	size_t len = (size_t)(bytes.end - bytes.at);
	nvc_autofd int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC);
	auto_file struct file file = {.data = NULL};

	/* The size that a file of procfs has says nothing. */
	if (fd < 0 || fstat(fd, &file.st) < 0 || !S_ISREG(file.st.st_mode) ||
	    (file.st.st_mode & 07777) != mode || file_read_stream(fd, len, &file) < 0)
		return false;
	return file.len == len && memcmp(file.data, bytes.at, len) == 0;
}

static int by_name(const void *left, const void *right)
{
	return strcmp(*(char *const *)left, *(char *const *)right);
}

static bool are_names(char **names, size_t count, struct nvc_json bytes)
{
	for (size_t i = 0; i < count; i++) {
		size_t len = strlen(names[i]) + 1;
		if ((size_t)(bytes.end - bytes.at) < len || memcmp(bytes.at, names[i], len) != 0)
			return false;
		bytes.at += len;
	}
	return bytes.at == bytes.end;
}

static bool has_names(const char *path, struct nvc_json bytes)
{
	nvc_autodir DIR *directory = opendir(path);
	nvc_autofree char **names = calloc(NAMES_MAX, sizeof *names);
	size_t count = 0;
	bool good = directory != NULL && names != NULL;

	for (struct dirent *entry; good && (entry = readdir(directory)) != NULL;) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		good = count < NAMES_MAX && (names[count] = strdup(entry->d_name)) != NULL;
		count += good ? 1 : 0;
	}
	if (names != NULL)
		qsort(names, count, sizeof *names, by_name);
	good = good && are_names(names, count, bytes);
	for (size_t i = 0; i < count; i++)
		free(names[i]);
	return good;
}

static bool has_data(struct nvc_json *left, char kind)
{
	uint64_t mode, len;
	struct nvc_json bytes;
	const char *path;

	if (!take_number(left, ' ', &mode) || !take_number(left, ' ', &len) ||
	    !take_path(left, &path) || !take_bytes(left, len, &bytes))
		return false;
	return kind == 'c' ? has_content(path, mode, bytes) : has_names(path, bytes);
}

bool kept_is_current(struct nvc_json dependencies)
{
	bool good = dependencies.at < dependencies.end;

	while (good && dependencies.at < dependencies.end) {
		char kind = *dependencies.at++;
		if (kind == 'i')
			good = is_same(&dependencies);
		else
			good = (kind == 'c' || kind == 'n') && has_data(&dependencies, kind);
	}
	return good;
}

/* The directory `name`; -1 unless only we may enter it. */
static int open_private(int dir_fd, const char *name)
{
	nvc_autofd int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_uid != geteuid() || (st.st_mode & 077) != 0)
		return -1;
	return nvc_steal_fd(&fd);
}

int kept_run_directory(void)
{
	return open_private(AT_FDCWD, "/run/libnvc");
}

bool kept_load(const char *version, const struct nvc_bytes *key, struct file *file,
               struct kept *out)
{
	nvc_autofd int run_fd = kept_run_directory();
	nvc_autofd int plans_fd = run_fd < 0 ? -1 : open_private(run_fd, "plans");
	char name[HASH_LEN];

	(void)snprintf(name, sizeof name, "%016" PRIx64, nvc_kept_hash(key->data, key->len));
	if (plans_fd < 0 || file_read(plans_fd, name, O_NOFOLLOW, KEPT_MAX, file) < 0)
		return false;
	return file_is_private(&file->st) && file->st.st_uid == geteuid() &&
	       kept_parse(file->data, file->len, version, out) &&
	       (size_t)(out->key.end - out->key.at) == key->len &&
	       memcmp(out->key.at, key->data, key->len) == 0 && kept_is_current(out->dependencies);
}
