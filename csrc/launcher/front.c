/* SPDX-License-Identifier: Apache-2.0 */
#include "front.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>

#include "nvc_cleanup.h"

#define FRONT_MAX   65536u
#define CONFIG_NAME "nvidia-container-runtime/config.toml"

struct cursor {
	char *at, *end;
};

/* The line that begins here, ended by NUL; NULL if none does. */
static char *next_line(struct cursor *cursor)
{
	char *start = cursor->at;
	size_t left = (size_t)(cursor->end - start);
	char *newline = memchr(start, '\n', left);

	if (newline == NULL || memchr(start, '\0', (size_t)(newline - start)) != NULL)
		return NULL;
	*newline = '\0';
	cursor->at = newline + 1;
	return start;
}

/* What follows a word and a space; NULL if that is not how the line begins or it ends there. */
static const char *after(const char *line, const char *word)
{
	size_t len = strlen(word);

	if (line == NULL || strncmp(line, word, len) != 0 || line[len] != ' ' ||
	    line[len + 1] == '\0')
		return NULL;
	return line + len + 1;
}

/* A decimal number and the space behind it. */
static bool take_number(const char **at, uint64_t *out)
{
	const char *text = *at;

	*out = 0;
	for (; isdigit((unsigned char)*text); text++) {
		if (__builtin_mul_overflow(*out, 10u, out) ||
		    __builtin_add_overflow(*out, (uint64_t)(*text - '0'), out))
			return false;
	}
	if (text == *at || *text != ' ')
		return false;
	*at = text + 1;
	return true;
}

static bool parse_config(const char *text, struct front *out)
{
	uint64_t *numbers[] = {&out->dev, &out->ino, &out->size, &out->mtime_ns, &out->ctime_ns};

	if (text == NULL)
		return false;
	out->identity = text;
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
		if (!take_number(&text, numbers[i]))
			return false;
	}
	out->config = text;
	return *text != '\0';
}

/* Lines that begin with a word; `*line` is the first of them and becomes the one behind. */
static bool parse_list(struct cursor *cursor, const char *word, char **line, struct front_list *out)
{
	out->first = after(*line, word);
	out->skip = strlen(word) + 1;
	for (out->count = 0; after(*line, word) != NULL; out->count++)
		*line = next_line(cursor);
	return out->count > 0;
}

/* Only characters that a JSON document has either as they are or as \u00XX or \/. */
static bool is_plain(const struct front_list *asks)
{
	const char *ask = asks->first;

	for (size_t i = 0; i < asks->count; i++, ask = front_next(asks, ask)) {
		for (const char *at = ask; *at != '\0'; at++) {
			if (*at < ' ' || *at > '~' || *at == '\\')
				return false;
		}
	}
	return true;
}

bool front_parse(char *text, size_t len, const char *version, struct front *out)
{
	struct cursor cursor = {.at = text, .end = text + len};
	const char *found = after(next_line(&cursor), "nvcfront 1");
	char *line;

	if (found == NULL || strcmp(found, version) != 0 ||
	    !parse_config(after(next_line(&cursor), "config"), out))
		return false;
	line = next_line(&cursor);
	return parse_list(&cursor, "runtime", &line, &out->runtimes) &&
	       parse_list(&cursor, "ask", &line, &out->asks) && is_plain(&out->asks) &&
	       line != NULL && strcmp(line, "end") == 0 && cursor.at == cursor.end;
}

static int hex(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	digit = (char)(digit | 0x20);
	return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

/* Whether an escape, from its backslash on, is one that may stand for a character of `hidden`. */
static bool may_hide(const char *at, size_t len, const bool hidden[128])
{
	int high, low;

	if (len < 2 || at[1] == '/')
		return true;
	if (at[1] != 'u')
		return false;
	if (len < 6)
		return true;
	high = hex(at[4]);
	low = hex(at[5]);
	if (at[2] != '0' || at[3] != '0' || high < 0 || low < 0)
		return false;
	return high < 8 && hidden[high * 16 + low];
}

bool front_may_ask(const struct front *front, const char *json, size_t len)
{
	const char *ask = front->asks.first, *at = json, *end = json + len;
	bool hidden[128] = {['_'] = true, ['-'] = true, ['.'] = true, ['/'] = true};

	for (int c = 0; c < 128; c++)
		hidden[c] = hidden[c] || isalnum(c);
	for (size_t i = 0; i < front->asks.count; i++, ask = front_next(&front->asks, ask)) {
		if (memmem(json, len, ask, strlen(ask)) != NULL)
			return true;
		for (const char *c = ask; *c != '\0'; c++)
			hidden[*c & 127] = true;
	}
	while ((at = memchr(at, '\\', (size_t)(end - at))) != NULL) {
		if (may_hide(at, (size_t)(end - at), hidden))
			return true;
		at += 2;
	}
	return false;
}

/* Join two parts of a path; false if that is too long. */
static bool join(char out[PATH_MAX], const char *head, const char *tail)
{
	size_t head_len = strlen(head), tail_len = strlen(tail);

	if (head_len + tail_len + 2 > PATH_MAX)
		return false;
	memcpy(out, head, head_len);
	out[head_len] = '/';
	memcpy(out + head_len + 1, tail, tail_len + 1);
	return true;
}

static bool read_from(const char *directory, struct file *out)
{
	nvc_autofd int dir_fd = open(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (dir_fd < 0 || fstat(dir_fd, &st) < 0 || !file_is_private(&st) ||
	    file_read(dir_fd, "front", O_NOFOLLOW, FRONT_MAX, out) < 0)
		return false;
	if (file_is_private(&out->st))
		return true;
	file_free(out);
	return false;
}

/* Root of a user namespace, as in rootless engines, may not have the host's. */
static bool read_front(struct file *out)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	char path[PATH_MAX];

	if (geteuid() == 0 && read_from("/run/libnvc", out))
		return true;
	return runtime != NULL && runtime[0] == '/' && join(path, runtime, "libnvc") &&
	       read_from(path, out);
}

bool front_config(char out[PATH_MAX])
{
	const char *path = getenv("NVIDIA_CTK_CONFIG_FILE_PATH");
	const char *home = getenv("XDG_CONFIG_HOME");

	if (path != NULL && path[0] != '\0') {
		size_t len = strlen(path);
		if (len >= PATH_MAX)
			return false;
		memcpy(out, path, len + 1);
		return true;
	}
	return join(out, home != NULL && home[0] != '\0' ? home : "/etc", CONFIG_NAME);
}

static uint64_t in_ns(struct timespec time)
{
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* Whether config.toml is the one that the front file was made from. */
static bool is_current(const struct front *front, const char *config)
{
	struct stat st;

	if (strcmp(config, front->config) != 0)
		return false;
	if (stat(config, &st) < 0) {
		uint64_t any = front->dev | front->ino | front->size | front->mtime_ns;
		return (errno == ENOENT || errno == ENOTDIR) && (any | front->ctime_ns) == 0;
	}
	return st.st_dev == front->dev && st.st_ino == front->ino &&
	       (uint64_t)st.st_size == front->size && in_ns(st.st_mtim) == front->mtime_ns &&
	       in_ns(st.st_ctim) == front->ctime_ns;
}

bool front_load(const char *version, const char *config, struct file *file, struct front *out)
{
	return read_front(file) && front_parse(file->data, file->len, version, out) &&
	       is_current(out, config);
}
