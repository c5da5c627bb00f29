/* SPDX-License-Identifier: Apache-2.0 */
/* needs: error kernel path find json document kept launcher/file launcher/front launcher/kept */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "launcher/kept.h"
#include "nvc_cleanup.h"

/* Not read, not even where the input names it: a file system gives the same input other results. */
static bool is_inside(struct nvc_json part, const char *text, size_t len)
{
	return part.at >= text && part.at <= part.end && part.end <= text + len;
}

static bool are_strings(struct nvc_strings strings)
{
	return strings.len == 0 || strings.at[strings.len - 1] == '\0';
}

/* The hash is made right: else hardly an input would get any further. */
static void read_kept(const uint8_t *data, size_t size)
{
	nvc_autofree char *text = malloc(size + 32);
	struct kept kept = {.key = {.at = NULL}};
	int len;

	if (text == NULL)
		abort();
	memcpy(text, data, size);
	len = snprintf(text + size, 32, "%016llx\n", (unsigned long long)nvc_kept_hash(text, size));
	if (!kept_parse(text, size + (size_t)len, "1", &kept))
		return;
	if (!is_inside(kept.key, text, size) || !is_inside(kept.result, text, size))
		abort();
	for (bool good = true; good;) {
		struct nvc_json section, left = kept.result;
		struct nvc_strings strings;
		if (kept_strings(&left, &strings) && !are_strings(strings))
			abort();
		good = kept_section(&kept.result, &section);
		if (good && !is_inside(section, text, size))
			abort();
	}
	(void)kept_is_current(kept.dependencies);
}

/* Promised: what comes of an edit is a document again, and can be read. */
static void edit_document(const uint8_t *data, size_t size)
{
	static const char nodes[] = "{\"path\":\"/dev/nvidia0\"}", rules[] = "{\"major\":195}";
	static const char head[] = "{\"args\":[", tail[] = "]}";
	struct nvc_document document, again;
	struct nvc_bytes key = {.data = NULL}, edited = {.data = NULL};
	struct nvc_json value;
	struct nvc_edit edit = {
	    .nodes = {.at = nodes, .end = nodes + sizeof nodes - 1},
	    .rules = {.at = rules, .end = rules + sizeof rules - 1},
	    .node_paths = {.at = "/dev/nvidia0", .len = sizeof "/dev/nvidia0"},
	    .majors = {.at = "195", .len = sizeof "195"},
	    .hook_head = {.at = head, .end = head + sizeof head - 1},
	    .hook_tail = {.at = tail, .end = tail + sizeof tail - 1},
	    .rootfs = "/rootfs",
	};
	struct nvc_strings asks = {.at = "ASK", .len = sizeof "ASK"}, none = {.at = "", .len = 0};

	if (!nvc_document_read((const char *)data, size, &document))
		return;
	if (nvc_kept_key(&document, none, asks, "/", &key))
		nvc_bytes_free(&key);
	for (int with_plan = 0; with_plan < 2; with_plan++) {
		edit.plan = with_plan ? "/plan" : NULL;
		if (!nvc_kept_edit(&document, &edit, &edited))
			continue;
		if (!nvc_json_read(edited.data, edited.len, &value) ||
		    !nvc_document_read(edited.data, edited.len, &again) ||
		    nvc_json_is_empty(with_plan ? again.create_runtime : again.prestart) ||
		    nvc_json_is_empty(again.devices))
			abort();
		nvc_bytes_free(&edited);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	read_kept(data, size);
	edit_document(data, size);
	return 0;
}
