/* SPDX-License-Identifier: Apache-2.0 */
#include "create.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "kept.h"
#include "nvc_cleanup.h"
#include "nvc_io.h"

#define PLAN_NAME "nvidia-container.plan"

/* What is kept of a creation; messages are strings: 'i' or 'w', 'c' where the container is named
 * first or '-', the text in JSON. */
struct made {
	struct nvc_edit edit;
	struct nvc_strings messages;
	struct nvc_json plan;
};

/* The low-level runtime's options, and its container. */
struct call {
	const char *log;
	bool is_json;
	const char *container;
};

/* An option without its dashes. Returns its value in the same word, NULL if there is none. */
static const char *split(const char *word, const char **name, size_t *len)
{
	*name = word + strspn(word, "-");
	*len = strcspn(*name, "=");
	return (*name)[*len] == '=' ? *name + *len + 1 : NULL;
}

static bool is_name(const char *name, size_t len, const char *other)
{
	return strlen(other) == len && strncmp(name, other, len) == 0;
}

/* As cli/runtime_args.py: those that take a value, which is no command's name. */
static bool is_valued(const char *name, size_t len)
{
	static const char *const names[] = {"root", "log",      "log-format",     "log-level",
	                                    "criu", "rootless", "cgroup-manager", "config"};

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		if (is_name(name, len, names[i]))
			return true;
	}
	return false;
}

/* Whether an id is one that runtimes take, and that stands in a log as it is. */
static bool is_id(const char *id)
{
	for (const char *at = id; *at != '\0'; at++) {
		if (!isalnum((unsigned char)*at) && strchr("_+-.", *at) == NULL)
			return false;
	}
	return id[0] != '\0' && id[0] != '-';
}

static bool read_call(char *const *words, struct call *out)
{
	*out = (struct call){.log = ""};
	for (; *words != NULL && **words == '-'; words++) {
		const char *name;
		size_t len;
		const char *value = split(*words, &name, &len);
		if (value == NULL && is_valued(name, len) && words[1] != NULL)
			value = *++words;
		if (value == NULL)
			value = "";
		if (is_name(name, len, "log"))
			out->log = value;
		if (is_name(name, len, "log-format"))
			out->is_json = strcmp(value, "json") == 0;
	}
	if (*words == NULL || strcmp(*words, "create") != 0)
		return false;
	while (*++words != NULL)
		out->container = *words;
	return out->container != NULL && is_id(out->container);
}

#define auto_bytes __attribute__((cleanup(nvc_bytes_free)))

static bool read_made(struct nvc_json left, struct made *out)
{
	struct nvc_edit *edit = &out->edit;

	return kept_section(&left, &edit->nodes) && kept_section(&left, &edit->rules) &&
	       kept_strings(&left, &edit->node_paths) && kept_strings(&left, &edit->majors) &&
	       kept_section(&left, &edit->hook_head) && kept_section(&left, &edit->hook_tail) &&
	       kept_strings(&left, &out->messages) && kept_section(&left, &out->plan) &&
	       left.at == left.end;
}

static bool find_made(const struct self *self, const struct front *front,
                      const struct nvc_document *document, const char *rootfs, struct file *file,
                      struct made *out)
{
	struct kept kept;
	auto_bytes struct nvc_bytes key = {.data = NULL};

	return kept_key(self, front, document, rootfs, &key) &&
	       kept_load(NVC_VERSION, &key, file, &kept) && read_made(kept.result, out);
}

/* Give a new file the owner and permissions of an old one. */
static bool give(int fd, const struct stat *old)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return false;
	if ((st.st_uid != old->st_uid || st.st_gid != old->st_gid) &&
	    fchown(fd, old->st_uid, old->st_gid) < 0)
		return false;
	return fchmod(fd, old->st_mode & 07777) == 0;
}

/* Write a file beside its place and move it there; `old` is whose owner and permissions it gets,
 * NULL for ours alone. */
static bool replace(const char *path, const struct stat *old, const char *data, size_t len)
{
	char new[PATH_MAX];
	int need = snprintf(new, sizeof new, "%s.%d", path, (int)getpid());

	if (need < 0 || (size_t)need >= sizeof new)
		return false;
	(void)unlink(new); /* of one that was killed */
	nvc_autofd int fd = open(new, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return false;
	if ((old == NULL || give(fd, old)) && nvc_write_all(fd, data, len) == 0 &&
	    rename(new, path) == 0)
		return true;
	(void)unlink(new);
	return false;
}

/* The log of an engine; -1 where it wants none. False where Python has to see. */
static bool open_log(const char *path, int *out)
{
	static const char prefix[] = "file:";

	*out = -1;
	if (strncmp(path, prefix, sizeof prefix - 1) == 0)
		path += sizeof prefix - 1;
	if (path[0] == '\0' || strcmp(path, "/dev/null") == 0)
		return true;
	if (strncmp(path, "journald:", 9) == 0 || strncmp(path, "syslog:", 7) == 0)
		return true;
	*out = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0644);
	return *out >= 0;
}

/* A line as cli/runtime_log.py writes it. What cannot be written is left out. */
static void log_message(int fd, const struct call *call, const char *message)
{
	const char *level = message[0] == 'w' ? "warning" : "info";
	bool is_named = message[0] != '\0' && message[1] == 'c';
	nvc_autofree char *line = NULL;
	char now[32], name[NAME_MAX + 16] = "";
	time_t seconds = time(NULL);
	struct tm utc;
	int len;

	if (message[0] == '\0' || message[1] == '\0' || gmtime_r(&seconds, &utc) == NULL ||
	    strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%SZ", &utc) == 0)
		return;
	if (is_named)
		(void)snprintf(name, sizeof name, "container %s: ", call->container);
	len = call->is_json
	          ? asprintf(&line, "{\"level\":\"%s\",\"msg\":\"%s%s\",\"time\":\"%s\"}\n", level,
	                     name, message + 2, now)
	          : asprintf(&line, "time=\"%s\" level=%s msg=\"%s%s\"\n", now, level, name,
	                     message + 2);
	if (len < 0)
		line = NULL;
	else
		(void)nvc_write_all(fd, line, (size_t)len);
}

static void log_messages(const struct call *call, struct nvc_strings messages)
{
	nvc_autofd int fd = -1;

	if (messages.len == 0 || !open_log(call->log, &fd) || fd < 0)
		return;
	for (const char *at = messages.at; at < messages.at + messages.len; at += strlen(at) + 1)
		log_message(fd, call, at);
}

/* Whether the engine's log, if there is one, can be written. */
static bool has_log(const struct call *call)
{
	nvc_autofd int fd = -1;

	return strlen(call->container) < NAME_MAX && open_log(call->log, &fd);
}

static bool write_bundle(const char *config, const struct made *made,
                         const struct nvc_bytes *edited)
{
	struct stat st;

	if (stat(config, &st) < 0)
		return false;
	if (made->edit.plan != NULL && !replace(made->edit.plan, NULL, made->plan.at,
	                                        (size_t)(made->plan.end - made->plan.at)))
		return false;
	return replace(config, &st, edited->data, edited->len);
}

bool create_kept(const struct self *self, const struct front *front, const struct command *command,
                 const struct file *file)
{
	auto_bytes struct nvc_bytes edited = {.data = NULL};
	auto_file struct file kept_file = {.data = NULL};
	char bundle[PATH_MAX], rootfs[PATH_MAX], config[PATH_MAX], plan[PATH_MAX], path[PATH_MAX];
	struct nvc_document document;
	struct made made;
	struct call call;
	int len;

	if (geteuid() != 0 || !kept_in_first_user_namespace() ||
	    !read_call(command->words, &call) || realpath(command->bundle, bundle) == NULL ||
	    !nvc_document_read(file->data, file->len, &document))
		return false;
	len = snprintf(path, sizeof path, "%s%s%.*s", *document.path.at == '/' ? "" : bundle,
	               *document.path.at == '/' ? "" : "/",
	               (int)(document.path.end - document.path.at), document.path.at);
	if (len < 0 || (size_t)len >= sizeof path || realpath(path, rootfs) == NULL)
		return false;
	len = snprintf(path, sizeof path, "%s/config.json", bundle);
	if (len < 0 || (size_t)len >= sizeof path || realpath(path, config) == NULL)
		return false;
	len = snprintf(plan, sizeof plan, "%s/" PLAN_NAME, bundle);
	if (len < 0 || (size_t)len >= sizeof plan ||
	    !find_made(self, front, &document, rootfs, &kept_file, &made))
		return false;
	/* The prestart hook finds out itself. */
	made.edit.plan = made.plan.at < made.plan.end ? plan : NULL;
	made.edit.rootfs = rootfs;
	if (!nvc_kept_edit(&document, &made.edit, &edited) || !has_log(&call) ||
	    !write_bundle(config, &made, &edited))
		return false;
	log_messages(&call, made.messages);
	return true;
}
