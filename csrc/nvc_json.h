/* SPDX-License-Identifier: Apache-2.0 */
/* Strict JSON in UTF-8, read where it lies: nothing is copied or changed. Privileges: none. Fork
 * class: any. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* A piece of a text: of a value from its first byte to its last, of a string without the quotes. */
struct nvc_json {
	const char *at, *end;
};

/* What is left of an object or array. */
struct nvc_json_items {
	struct nvc_json left;
	bool is_object, is_first;
};

/* Take the one value that a text holds, its end behind it. False unless it is JSON, nested at most
 * 64 deep. */
bool nvc_json_read(const char *text, size_t len, struct nvc_json *value);

/* Begin with the items of a value. False if it is no object or array, as `bracket` wants. */
bool nvc_json_enter(struct nvc_json value, char bracket, struct nvc_json_items *out);

/* Take the next one: 1, 0 at the end, -1 if it is not JSON. `key` is empty in arrays. */
int nvc_json_next(struct nvc_json_items *items, struct nvc_json *key, struct nvc_json *value);

/* Whether a string, however it is written, is an ASCII text. */
bool nvc_json_is(struct nvc_json string, const char *text);

/* The string that a value is, without its quotes. False if it is another value. */
bool nvc_json_string(struct nvc_json value, struct nvc_json *out);

/* Whether a piece of text has another in it. */
bool nvc_json_has(struct nvc_json text, const char *part);

/* Whether there is something between the brackets of a value. */
bool nvc_json_is_empty(struct nvc_json value);
