/* SPDX-License-Identifier: Apache-2.0 */
/* The bundle that the state of a container names. Privileges: to read its files. */
#pragma once

#include <limits.h>
#include <stdbool.h>

#include "file.h"
#include "nvc_document.h"
#include "state.h"

/* Read its configuration; `file` keeps the text. False where that is not plain. */
bool bundle_read(const struct state *state, struct file *file, struct nvc_document *document);

/* Follow a path to its end, one that is not absolute from the bundle. */
bool bundle_follow(const struct state *state, struct nvc_json path, char out[PATH_MAX]);
