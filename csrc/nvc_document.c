/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_document.h"

#include <string.h>

/* Where a container's configuration names devices by a mount. */
#define VOLUMES "nvidia-container-devices"
/* What the names of our own hooks begin with. */
#define OWN_HOOKS "nvidia-container-"

struct member {
	const char *name;
	char type; /* the first byte of its values */
	struct nvc_json *out;
};

/* Find members by name; those that are not there stay as they are. */
static bool find_members(struct nvc_json object, const struct member *members, size_t count)
{
	struct nvc_json_items items;
	struct nvc_json key, value;
	int result;

	if (!nvc_json_enter(object, '{', &items))
		return false;
	while ((result = nvc_json_next(&items, &key, &value)) == 1) {
		if (nvc_json_has(key, "\\"))
			return false;
		for (size_t i = 0; i < count; i++) {
			if (!nvc_json_is(key, members[i].name))
				continue;
			if (members[i].out->at != NULL || *value.at != members[i].type)
				return false;
			*members[i].out = value;
		}
	}
	return result == 0;
}

#define FIND(object, ...)                                                                          \
	((object).at == NULL ||                                                                    \
	 find_members(object, (const struct member[]){__VA_ARGS__},                                \
	              sizeof((const struct member[]){__VA_ARGS__}) / sizeof(struct member)))

/* Values with neither an escape nor a word that Python looks for. */
static bool is_free_of(struct nvc_json value, const char *word)
{
	return value.at == NULL || (!nvc_json_has(value, "\\") && !nvc_json_has(value, word));
}

static bool check_mounts(struct nvc_json mounts)
{
	struct nvc_json_items items;
	struct nvc_json unused, mount;
	int result;

	if (mounts.at == NULL)
		return true;
	if (!is_free_of(mounts, VOLUMES) || !nvc_json_enter(mounts, '[', &items))
		return false;
	while ((result = nvc_json_next(&items, &unused, &mount)) == 1) {
		struct nvc_json source = {.at = NULL}, destination = {.at = NULL};
		if (!FIND(mount, {"source", '"', &source}, {"destination", '"', &destination}))
			return false;
	}
	return result == 0;
}

static bool check_namespaces(struct nvc_json namespaces)
{
	struct nvc_json_items items;
	struct nvc_json unused, namespace;
	int result;

	if (namespaces.at == NULL)
		return true;
	if (!is_free_of(namespaces, "\"user\"") || !nvc_json_enter(namespaces, '[', &items))
		return false;
	while ((result = nvc_json_next(&items, &unused, &namespace)) == 1) {
		struct nvc_json type = {.at = NULL};
		if (!FIND(namespace, {"type", '"', &type}))
			return false;
	}
	return result == 0;
}

/* Release candidates of the specification had capabilities in another shape. */
static bool check_version(struct nvc_json version)
{
	return version.at == NULL ||
	       (!nvc_json_has(version, "\\") && strncmp(version.at, "\"1.0.0-", 7) != 0);
}

/* Whether a text is the same in JSON and out of it. */
static bool is_printable(struct nvc_json text)
{
	for (const char *at = text.at; at < text.end; at++) {
		if (*at < ' ' || *at > '~' || *at == '"' || *at == '\\')
			return false;
	}
	return true;
}

bool nvc_document_read(const char *json, size_t len, struct nvc_document *out)
{
	*out = (struct nvc_document){.is_privileged = false};
	if (!nvc_json_read(json, len, &out->whole) ||
	    !FIND(out->whole, {"ociVersion", '"', &out->version}, {"process", '{', &out->process},
	          {"root", '{', &out->root}, {"mounts", '[', &out->mounts},
	          {"annotations", '{', &out->annotations}, {"linux", '{', &out->on_linux},
	          {"hooks", '{', &out->hooks}))
		return false;
	if (!FIND(out->process, {"env", '[', &out->env},
	          {"capabilities", '{', &out->capabilities}) ||
	    !FIND(out->capabilities, {"bounding", '[', &out->bounding}) ||
	    !FIND(out->root, {"path", '"', &out->path}) ||
	    !FIND(out->on_linux, {"namespaces", '[', &out->namespaces},
	          {"devices", '[', &out->devices}, {"resources", '{', &out->resources}) ||
	    !FIND(out->resources, {"devices", '[', &out->rules}) ||
	    !FIND(out->hooks, {"prestart", '[', &out->prestart},
	          {"createRuntime", '[', &out->create_runtime}))
		return false;
	if (!check_version(out->version) || !check_mounts(out->mounts) ||
	    !check_namespaces(out->namespaces))
		return false;
	if (out->bounding.at != NULL) {
		if (nvc_json_has(out->bounding, "\\"))
			return false;
		out->is_privileged = nvc_json_has(out->bounding, "\"CAP_SYS_ADMIN\"");
	}
	return out->path.at != NULL && nvc_json_string(out->path, &out->path) &&
	       is_printable(out->path);
}

static const char *next(const char *string)
{
	return string + strlen(string) + 1;
}

static bool holds_one(struct nvc_json text, struct nvc_strings words)
{
	for (const char *at = words.at; at < words.at + words.len; at = next(at)) {
		if (nvc_json_has(text, at))
			return true;
	}
	return false;
}

/* Write a piece so that no other pieces look like it: text of JSON holds no NUL. */
static bool put(FILE *out, char kind, struct nvc_json text)
{
	size_t len = (size_t)(text.end - text.at);

	return fputc(kind, out) >= 0 && fwrite(text.at, 1, len, out) == len &&
	       fputc('\0', out) >= 0;
}

static bool put_environment(struct nvc_json env, struct nvc_strings asks, FILE *out)
{
	static const char prefix[] = "NVIDIA_";
	struct nvc_json unused, entry;
	struct nvc_json_items items;
	int result;

	if (env.at == NULL)
		return true;
	if (!nvc_json_enter(env, '[', &items))
		return false;
	while ((result = nvc_json_next(&items, &unused, &entry)) == 1) {
		struct nvc_json name;
		if (!nvc_json_string(entry, &entry))
			return false;
		name = entry;
		name.end = memchr(entry.at, '=', (size_t)(entry.end - entry.at));
		/* An escape may be "=", or stand for a letter of the name. */
		if (name.end == NULL || nvc_json_has(name, "\\"))
			return false;
		if (((size_t)(name.end - name.at) >= sizeof prefix - 1 &&
		     memcmp(name.at, prefix, sizeof prefix - 1) == 0) ||
		    holds_one(entry, asks)) {
			if (!put(out, 'e', entry))
				return false;
		}
	}
	return result == 0;
}

static bool put_annotations(struct nvc_json annotations, struct nvc_strings asks, FILE *out)
{
	struct nvc_json_items items;
	struct nvc_json key, value;
	int result;

	if (annotations.at == NULL)
		return true;
	if (!nvc_json_enter(annotations, '{', &items))
		return false;
	while ((result = nvc_json_next(&items, &key, &value)) == 1) {
		if (nvc_json_has(key, "\\") || !nvc_json_string(value, &value))
			return false;
		if (holds_one(key, asks) && !(put(out, 'a', key) && put(out, 'v', value)))
			return false;
	}
	return result == 0;
}

bool nvc_document_key(const struct nvc_document *document, struct nvc_strings asks, FILE *out)
{
	static const char rights[] = "privileged", none[] = "";
	const char *held = document->is_privileged ? rights : none;

	return put(out, 'r', (struct nvc_json){.at = held, .end = held + strlen(held)}) &&
	       put_environment(document->env, asks, out) &&
	       put_annotations(document->annotations, asks, out);
}

/* --- the edit ------------------------------------------------------------------------------- */

/* Text to be inserted: a list of values, in the members that it lacks, each with its own. */
struct insertion {
	const char *at;
	const char *head; /* what opens the members that are missing */
	const char *tail; /* what closes them */
	bool is_behind;   /* a comma comes first */
	bool is_before;   /* a comma comes last */
};

/* Where the elements of an array go, which is missing in an object if `array.at` is NULL. */
static struct insertion into(struct nvc_json object, struct nvc_json array, bool is_first,
                             const char *head, const char *tail)
{
	if (array.at == NULL)
		return (struct insertion){.at = object.at + 1,
		                          .head = head,
		                          .tail = tail,
		                          .is_before = !nvc_json_is_empty(object)};
	return (struct insertion){.at = is_first ? array.at + 1 : array.end - 1,
	                          .head = "",
	                          .tail = "",
	                          .is_behind = !is_first && !nvc_json_is_empty(array),
	                          .is_before = is_first && !nvc_json_is_empty(array)};
}

static bool put_text(FILE *out, struct nvc_json text)
{
	size_t len = (size_t)(text.end - text.at);

	return fwrite(text.at, 1, len, out) == len;
}

static bool put_path(FILE *out, const char *path)
{
	struct nvc_json text = {.at = path, .end = path + strlen(path)};

	return is_printable(text) && fprintf(out, "\"%s\"", path) > 0;
}

static bool put_hook(FILE *out, const struct nvc_edit *edit)
{
	if (!put_text(out, edit->hook_head))
		return false;
	if (edit->plan != NULL &&
	    (!put_path(out, edit->plan) || fputc(',', out) < 0 || !put_path(out, edit->rootfs)))
		return false;
	return put_text(out, edit->hook_tail);
}

/* Whether an edit leaves all as it is that is there already. */
static bool is_plain(const struct nvc_document *document, const struct nvc_edit *edit)
{
	struct nvc_strings empty = {.at = "", .len = 0};

	if (document->on_linux.at == NULL || nvc_json_is_empty(document->on_linux) ||
	    !is_free_of(document->hooks, OWN_HOOKS))
		return false;
	if (document->devices.at != NULL && (nvc_json_has(document->devices, "\\") ||
	                                     holds_one(document->devices, edit->node_paths)))
		return false;
	return document->rules.at == NULL ||
	       (!nvc_json_has(document->rules, "\\") &&
	        !holds_one(document->rules,
	                   edit->rules.at < edit->rules.end ? edit->majors : empty));
}

/* The hook of a plan comes before others, for they may need what it gives. */
static struct insertion hook_place(const struct nvc_document *document, bool has_plan)
{
	struct nvc_json hooks = document->hooks, none = {.at = NULL};

	if (has_plan)
		return hooks.at != NULL
		           ? into(hooks, document->create_runtime, true, "\"createRuntime\":[", "]")
			   : into(document->whole, none, true, "\"hooks\":{\"createRuntime\":[",
			          "]}");
	return hooks.at != NULL
	           ? into(hooks, document->prestart, false, "\"prestart\":[", "]")
		   : into(document->whole, none, false, "\"hooks\":{\"prestart\":[", "]}");
}

bool nvc_document_edit(const struct nvc_document *document, const struct nvc_edit *edit, FILE *out)
{
	bool has_resources = document->resources.at != NULL;
	struct insertion nodes, rules, hook, *order[3] = {&nodes, &rules, &hook};
	const char *at = document->whole.at;
	int result;

	if (!is_plain(document, edit))
		return false;
	nodes = into(document->on_linux, document->devices, false, "\"devices\":[", "]");
	rules = has_resources
	            ? into(document->resources, document->rules, false, "\"devices\":[", "]")
	            : into(document->on_linux, document->rules, false,
	                   "\"resources\":{\"devices\":[", "]}");
	hook = hook_place(document, edit->plan != NULL);
	for (size_t i = 1; i < 3; i++) {
		for (size_t j = i; j > 0 && order[j]->at < order[j - 1]->at; j--) {
			struct insertion *later = order[j - 1];
			order[j - 1] = order[j];
			order[j] = later;
		}
	}
	for (size_t i = 0; i < 3; i++) {
		struct nvc_json between = {.at = at, .end = order[i]->at};
		struct nvc_json values = order[i] == &nodes ? edit->nodes : edit->rules;
		if (order[i] != &hook && values.at == values.end)
			continue;
		if (!put_text(out, between) || (order[i]->is_behind && fputc(',', out) < 0) ||
		    fputs(order[i]->head, out) < 0 ||
		    !(order[i] == &hook ? put_hook(out, edit) : put_text(out, values)) ||
		    fputs(order[i]->tail, out) < 0 || (order[i]->is_before && fputc(',', out) < 0))
			return false;
		at = order[i]->at;
	}
	result = put_text(out, (struct nvc_json){.at = at, .end = document->whole.end});
	return result && fputc('\n', out) >= 0;
}
