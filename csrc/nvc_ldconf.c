/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_ldconf.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "nvc_cleanup.h"
#include "nvc_dir.h"
#include "nvc_io.h"

#define CONF_PATH "/etc/ld.so.conf"
#define HWCAPS    "glibc-hwcaps"
#define DEBIAN    "/etc/debian_version"
#define FILE_MAX  65536u /* bytes of a file that are read */
#define MATCH_MAX 1024u  /* files that one pattern may name */
#define DEPTH_MAX 64     /* of includes, counted with the directories in their patterns */
#define BLANKS    " \t\r\f\v"

#if defined(__x86_64__)
#define TRIPLET "x86_64-linux-gnu"
#elif defined(__aarch64__)
#define TRIPLET "aarch64-linux-gnu"
#else
#define TRIPLET "powerpc64le-linux-gnu"
#endif

struct reader {
	const struct nvc_root *root;
	struct nvc_arena *memory;
	struct nvc_ldconf *out;
	uint32_t files;
	int depth;
};

static void note_time(struct nvc_ldconf *conf, const struct stat *st)
{
	const struct timespec *now = &st->st_mtim;

	if (now->tv_sec > conf->newest.tv_sec ||
	    (now->tv_sec == conf->newest.tv_sec && now->tv_nsec > conf->newest.tv_nsec))
		conf->newest = *now;
}

const struct nvc_lddir *nvc_ldconf_find(const struct nvc_ldconf *conf, uint64_t dev, uint64_t ino)
{
	for (uint32_t i = 0; i < conf->count; i++) {
		if (conf->all[i].dev == dev && conf->all[i].ino == ino)
			return &conf->all[i];
	}
	return NULL;
}

/* --- directories --------------------------------------------------------------------------------
 */

/* Open a directory of the container; -1 if there is none. */
static int open_directory(const struct reader *reader, const char *path, struct stat *st)
{
	nvc_autofd int fd = nvc_path_open(reader->root, path, st);

	return fd < 0 || !S_ISDIR(st->st_mode) ? -1 : nvc_steal_fd(&fd);
}

static int append(struct nvc_ldconf *conf, struct nvc_lddir directory)
{
	if (conf->count == NVC_LDCONF_MAX) {
		errno = ENOMEM;
		return -1;
	}
	conf->all[conf->count++] = directory;
	return 0;
}

/* Add a directory, but for one that is there already. 1: added. -1 with errno. */
static int add(struct reader *reader, const char *path, const char *hwcaps, const struct stat *st)
{
	struct nvc_ldconf *conf = reader->out;
	struct nvc_lddir directory = {path, hwcaps, st->st_dev, st->st_ino};

	note_time(conf, st);
	if (nvc_ldconf_find(conf, st->st_dev, st->st_ino) != NULL)
		return 0;
	return append(conf, directory) < 0 ? -1 : 1;
}

/* One directory, and the path of those below its glibc-hwcaps. */
struct parent {
	struct reader *reader;
	const char *path;
};

static int add_hwcaps(void *cookie, const char *name, unsigned char type)
{
	const struct parent *parent = cookie;
	struct reader *reader = parent->reader;
	struct stat st;

	if (name[0] == '.' || type == DT_REG || strchr(name, ':') != NULL)
		return 0;
	const char *path = nvc_arena_join(reader->memory, parent->path, name);
	if (path == NULL)
		return -1;
	nvc_autofd int fd = open_directory(reader, path, &st);
	return fd < 0 || add(reader, path, path + strlen(parent->path) + 1, &st) >= 0 ? 0 : -1;
}

/* -1 with errno. */
static int add_directory(struct reader *reader, const char *path)
{
	struct stat st;
	nvc_autofd int fd = open_directory(reader, path, &st);

	/* It keeps its place: the plan may make it. */
	if (fd < 0)
		return append(reader->out, (struct nvc_lddir){.path = path});
	int added = add(reader, path, NULL, &st);
	/* Asking for the last component alone is one call where it is missing, as nearly always. */
	if (added <= 0 || fstatat(fd, HWCAPS, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return added < 0 ? -1 : 0;
	struct parent parent = {reader, nvc_arena_join(reader->memory, path, HWCAPS)};
	if (parent.path == NULL)
		return -1;
	nvc_autofd int hwcaps_fd = open_directory(reader, parent.path, &st);
	if (hwcaps_fd < 0)
		return 0;
	note_time(reader->out, &st);
	errno = 0;
	return nvc_dir_list(hwcaps_fd, add_hwcaps, &parent) < 0 && errno == ENOMEM ? -1 : 0;
}

/* What ldconfig looks through without being told: of Debian's build, else of everybody's. Not told
 * by which of these are there: somebody may have mounted a driver's libraries in the other's. */
static int add_known(struct reader *reader)
{
	static const char *const multiarch[] = {"/lib/" TRIPLET, "/usr/lib/" TRIPLET};
	static const char *const plain[] = {"/lib", "/lib64", "/usr/lib", "/usr/lib64"};
	struct stat st;
	nvc_autofd int fd = nvc_path_open(reader->root, DEBIAN, &st);
	bool is_debian = fd >= 0;

	for (size_t i = 0; is_debian && i < 2; i++) {
		if (add_directory(reader, multiarch[i]) < 0)
			return -1;
	}
	for (size_t i = 0; i < 4; i++) {
		if ((!is_debian || i % 2 == 0) && add_directory(reader, plain[i]) < 0)
			return -1;
	}
	return 0;
}

/* --- patterns -----------------------------------------------------------------------------------
 */

/* Take a character of a set, which may be escaped. */
static unsigned char take_one(const char **at)
{
	*at += **at == '\\' && (*at)[1] != '\0' ? 1 : 0;
	return (unsigned char)*(*at)++;
}

/* Whether a character is in the set that `*pattern` stands in, behind its "["; go to its end. NULL
 * there if it has none. */
static bool is_in_set(const char **pattern, char c)
{
	const char *at = *pattern;
	bool negated = *at == '!' || *at == '^', found = false;

	at += negated ? 1 : 0;
	for (const char *first = at; *at != '\0' && (*at != ']' || at == first);) {
		unsigned char low = take_one(&at), high = low;
		if (at[0] == '-' && at[1] != ']' && at[1] != '\0') {
			at++;
			high = take_one(&at);
		}
		found = found || (low <= (unsigned char)c && (unsigned char)c <= high);
	}
	*pattern = *at == ']' ? at + 1 : NULL;
	return found != negated;
}

/* Match one character of the name; go on in the pattern. */
static bool match_one(const char **pattern, char c)
{
	const char *at = *pattern;

	if (*at == '[') {
		const char *end = at + 1;
		bool found = is_in_set(&end, c);
		*pattern = end == NULL ? at + 1 : end;
		return end == NULL ? c == '[' : found;
	}
	if (*at == '?') {
		*pattern = at + 1;
		return true;
	}
	at += *at == '\\' ? 1 : 0;
	if (*at == '\0')
		return false;
	*pattern = at + 1;
	return *at == c;
}

bool nvc_ldconf_matches(const char *pattern, const char *name)
{
	const char *star = NULL, *retry = NULL;

	if (name[0] == '.' && pattern[pattern[0] == '\\' ? 1 : 0] != '.')
		return false;
	while (*name != '\0') {
		if (*pattern == '*') {
			star = ++pattern;
			retry = name;
			continue;
		}
		if (*pattern != '\0' && match_one(&pattern, *name)) {
			name++;
			continue;
		}
		if (star == NULL)
			return false;
		pattern = star;
		name = ++retry;
	}
	while (*pattern == '*')
		pattern++;
	return *pattern == '\0';
}

static int read_file(struct reader *reader, const char *path);

struct matches {
	struct reader *reader;
	const char *pattern;
	const char **names; /* in order */
	uint32_t count;
};

static int take_match(void *cookie, const char *name, unsigned char type)
{
	struct matches *matches = cookie;
	uint32_t at = matches->count;

	(void)type;
	if (!nvc_ldconf_matches(matches->pattern, name) || matches->count == MATCH_MAX)
		return 0;
	const char *copy = nvc_arena_copy(matches->reader->memory, name, strlen(name));
	if (copy == NULL)
		return -1;
	for (; at > 0 && strcmp(matches->names[at - 1], copy) > 0; at--)
		matches->names[at] = matches->names[at - 1];
	matches->names[at] = copy;
	matches->count++;
	return 0;
}

static int include(struct reader *reader, const char *directory, const char *rest);

/* Include what one component of a pattern stands for. */
static int include_each(struct reader *reader, const char *directory, const char *pattern,
                        const char *rest)
{
	struct matches matches = {reader, pattern, NULL, 0};
	struct stat st;
	nvc_autofd int fd = open_directory(reader, directory[0] == '\0' ? "/" : directory, &st);

	if (fd < 0)
		return 0;
	note_time(reader->out, &st);
	matches.names = nvc_arena_take(reader->memory, MATCH_MAX * sizeof *matches.names);
	errno = 0;
	if (matches.names == NULL ||
	    (nvc_dir_list(fd, take_match, &matches) < 0 && errno == ENOMEM))
		return -1;
	for (uint32_t i = 0; i < matches.count; i++) {
		const char *path = nvc_arena_join(reader->memory, directory, matches.names[i]);
		if (path == NULL ||
		    (*rest == '\0' ? read_file(reader, path) : include(reader, path, rest)) < 0)
			return -1;
	}
	return 0;
}

/* Include the files that a pattern stands for, in order. `directory` is settled, `rest` is not. */
static int include(struct reader *reader, const char *directory, const char *rest)
{
	const char *name = rest + strspn(rest, "/"), *end = name + strcspn(name, "/");
	const char *one = nvc_arena_copy(reader->memory, name, (size_t)(end - name));
	int result = 0;

	if (one == NULL)
		return -1;
	if (*one == '\0' || reader->depth == DEPTH_MAX)
		return 0;
	reader->depth++;
	if (strpbrk(one, "*?[\\") != NULL) {
		result = include_each(reader, directory, one, end);
	} else {
		const char *path = nvc_arena_join(reader->memory, directory, one);
		result = path == NULL   ? -1
		         : *end == '\0' ? read_file(reader, path)
		                        : include(reader, path, end);
	}
	reader->depth--;
	return result;
}

/* --- files --------------------------------------------------------------------------------------
 */

/* The patterns of an include; those without a slash in front are relative to the file. */
static int read_include(struct reader *reader, const char *file, const char *patterns)
{
	const char *slash = strrchr(file, '/');

	for (const char *at = patterns + strspn(patterns, BLANKS); *at != '\0';) {
		size_t len = strcspn(at, BLANKS);
		const char *pattern = nvc_arena_copy(reader->memory, at, len);
		const char *directory =
		    *at == '/' ? "" : nvc_arena_copy(reader->memory, file, (size_t)(slash - file));
		if (pattern == NULL || directory == NULL || include(reader, directory, pattern) < 0)
			return -1;
		at += len;
		at += strspn(at, BLANKS);
	}
	return 0;
}

static bool starts_with_word(const char *line, const char *word)
{
	size_t len = strlen(word);

	return strncasecmp(line, word, len) == 0 && (line[len] == ' ' || line[len] == '\t');
}

/* `line` is the reader's own, without its end. */
static int read_line(struct reader *reader, const char *file, char *line)
{
	line[strcspn(line, "#")] = '\0';
	line += strspn(line, BLANKS);
	if (strncmp(line, "include", 7) == 0 && (line[7] == ' ' || line[7] == '\t'))
		return read_include(reader, file, line + 7);
	/* "hwcap" lines mean nothing any more; "DIRECTORY=libc6" was for several C libraries. */
	line[strcspn(line, "=")] = '\0';
	size_t len = strlen(line);
	while (len > 0 && strchr(BLANKS, line[len - 1]) != NULL)
		len--;
	while (len > 0 && line[len - 1] == '/')
		len--;
	line[len] = '\0';
	if (line[0] != '/' || starts_with_word(line, "hwcap"))
		return 0;
	return add_directory(reader, line);
}

/* Read a file into memory that lives on: directories are named by it. NULL: nothing is there. */
static char *load(struct reader *reader, const char *path)
{
	struct stat st;
	nvc_autofd int path_fd = nvc_path_open(reader->root, path, &st);
	nvc_autofd int fd = path_fd < 0 ? -1 : nvc_path_reopen(reader->root, path_fd, &st);

	if (fd < 0)
		return NULL;
	note_time(reader->out, &st);
	size_t size = st.st_size < FILE_MAX ? (size_t)st.st_size : FILE_MAX;
	char *text = nvc_arena_take(reader->memory, size + 1);
	ssize_t len = text == NULL ? -1 : nvc_read_all(fd, text, size);
	if (len < 0)
		return NULL;
	text[len] = '\0';
	return text;
}

static int read_file(struct reader *reader, const char *path)
{
	char *at, *next;

	if (reader->files == NVC_LDCONF_FILES)
		return 0;
	reader->files++;
	errno = 0;
	at = load(reader, path);
	if (at == NULL)
		return errno == ENOMEM ? -1 : 0;
	for (; *at != '\0'; at = next) {
		size_t len = strcspn(at, "\n");
		next = at + len + (at[len] == '\n' ? 1 : 0);
		at[len] = '\0';
		if (read_line(reader, path, at) < 0)
			return -1;
	}
	return 0;
}

int nvc_ldconf_read(const struct nvc_root *root, struct nvc_arena *memory, struct nvc_ldconf *out)
{
	struct reader reader = {.root = root, .memory = memory, .out = out};

	*out = (struct nvc_ldconf){
	    .all = nvc_arena_take(memory, NVC_LDCONF_MAX * sizeof(struct nvc_lddir))};
	if (out->all == NULL || read_file(&reader, CONF_PATH) < 0)
		return -1;
	return add_known(&reader);
}
